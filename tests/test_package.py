"""The wheel, the sdist and an editable install give the same import names."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORTS = "import armfold, armfold.core.bandits, armfold.shell, armfold.shell.cli; print(armfold.__file__)"


def run(*words: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def modules(folder: Path, prefix: str = "") -> set[str]:
    return {prefix + path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)  # the wheel is built from the sdist
    return out


@pytest.mark.slow
def test_wheel_holds_every_module_and_the_type_marker(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = modules(ROOT / "core", "armfold/core/") | modules(ROOT / "shell", "armfold/shell/")
    assert ours | {"armfold/__init__.py", "armfold/__main__.py", "armfold/py.typed"} <= names
    assert not {name for name in names if name.startswith(("core/", "shell/", "tests/", "bench/"))}


@pytest.mark.slow
def test_wheel_imports_in_a_fresh_environment(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    # The dependencies are borrowed from this environment; a path takes no part in its editable install.
    borrowed = {"PYTHONPATH": sysconfig.get_path("purelib")}
    where = Path(run(python, "-P", "-c", IMPORTS, **borrowed).strip())
    assert where.is_relative_to(tmp_path / "env")
    smoke = run(
        tmp_path / "env" / "bin" / "armfold", "bandit", "--preset", "smoke", "--out", tmp_path / "run", **borrowed
    )
    assert "kl_ucb" in smoke


@pytest.mark.slow
def test_editable_install_imports_the_checkout() -> None:
    where = Path(run(sys.executable, "-c", IMPORTS).strip())
    assert where == ROOT / "armfold" / "__init__.py"
    assert (ROOT / "armfold" / "core").readlink() == Path("../core")
    assert (ROOT / "armfold" / "shell").readlink() == Path("../shell")

"""Every public name is documented and typed, and the packages refuse any name but their own."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import armfold.core
import armfold.shell

ROOT = Path(__file__).parents[1]


def _names(package: ModuleType) -> list[str]:
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return [package.__name__, *(module.name for module in found)]


MODULES = [*_names(armfold.core), *_names(armfold.shell)]


def _unwrap(member: Any) -> Any:
    """The function behind a property, a class method or a static method."""
    if isinstance(member, property):
        return member.fget
    return inspect.unwrap(getattr(member, "__func__", member))


def _public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public classes and functions that a module defines, and the public methods of those classes."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value) or inspect.isroutine(value):
            yield name, value
        if inspect.isclass(value):
            for method, member in vars(value).items():
                function = _unwrap(member)
                if not method.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{method}", function


def _undocumented(value: Any) -> bool:
    """Whether there is no docstring, or only the signature that NamedTuple and dataclass write."""
    text = value.__doc__ or ""
    return not text.strip() or (inspect.isclass(value) and text.startswith(f"{value.__name__}("))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    missing = [what for what, value in _public(module) if _undocumented(value)]
    assert (module.__doc__ or "").strip(), f"{name} has no docstring"
    assert not missing, f"no docstring in {name}: {missing}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("armfold.core")])
def test_every_public_function_of_the_core_is_annotated(name: str) -> None:
    missing = []
    for what, value in _public(importlib.import_module(name)):
        if not inspect.isfunction(value):
            continue
        signature = inspect.signature(value)
        wanted = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
        missing += [f"{what}({p.name})" for p in wanted if p.annotation is p.empty]
        missing += [f"{what} -> ?"] * (signature.return_annotation is signature.empty)
    assert not missing, f"no annotation in {name}: {missing}"


def test_the_walk_finds_what_it_should() -> None:
    """Else the tests above could pass by looking at nothing."""
    assert {"armfold.core.random", "armfold.core.bandits.registry", "armfold.core.check"} <= set(MODULES)
    module = ModuleType("sample")
    exec(
        "from typing import NamedTuple\n"
        "class Bare(NamedTuple):\n    x: int\n    @property\n    def twice(self): ...\n    def _hidden(self): ...\n"
        "def told():\n    'Says so.'\n"
        "def _hidden(): ...\n",
        module.__dict__,
    )
    assert [(what, _undocumented(value)) for what, value in _public(module)] == [
        ("Bare", True),
        ("Bare.twice", True),
        ("told", False),
    ]


@pytest.mark.parametrize("name", ["core", "shell"])
def test_packages_refuse_another_name(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"import this package as armfold.{name}, not as {name}" in done.stderr.splitlines()[-1]

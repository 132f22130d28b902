"""The documentation's Python runs, and its tables name everything that there is."""

import re
from pathlib import Path

import pytest

from armfold.core.bandits import ALGORITHMS
from armfold.core.envs import ENVIRONMENTS
from armfold.shell.config import PRESETS, Config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{i}")
    for page in PAGES
    for i, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S))
]


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("block", BLOCKS)
def test_example_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "example", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out


def test_every_algorithm_and_environment_has_a_row() -> None:
    page = (ROOT / "docs" / "bandits.md").read_text()
    for entry in (*ALGORITHMS.values(), *ENVIRONMENTS.values()):
        assert f"| `{entry.name}` | {entry.summary.rstrip('.')} |" in page, entry.name
    for algorithm in ALGORITHMS.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{algorithm.name}` |"))
        assert all(f"`{name}` ({default:g})" in row for name, default in algorithm.tunables.items()), row
        assert all(f"`{name}` ({default})" in row for name, default in algorithm.choices.items()), row
        assert f"| {algorithm.source} |" in row


def headings(page: Path) -> set[str]:
    """The anchors of a page, as they are made of its headings."""
    titles = re.findall(r"^#+ (.*)", page.read_text(), re.M)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            name, _, anchor = target.partition("#")
            there = page.parent / name if name else page
            assert "://" in target or there.exists(), f"{page.name}: {target}"
            assert not anchor or "://" in target or anchor in headings(there), f"{page.name}: {target}"


def test_code_that_pages_name_exists() -> None:
    """Named as `path/file.py:name`, from the root; the first column of a table may name what is elsewhere."""
    for page in PAGES:
        text = re.sub(r"^\|[^|]*\|", "|", page.read_text(), flags=re.M)
        for name, thing in re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|h|c|cu))(?::(\w+))?`", text):
            path = ROOT / name
            assert path.is_file(), f"{page.name}: {name}"
            defined = rf"^\s*(?:(?:async )?def|class) {thing}\b|^{thing}\b.*="
            assert not thing or re.search(defined, path.read_text(), re.M), f"{page.name}: {name}:{thing}"


def test_options_named_in_seeds_exist() -> None:
    named = re.findall(r"`--([a-z-]+)`", (ROOT / "docs" / "seeds.md").read_text().split("| flag there | here |")[1])
    known = {field.replace("_", "-") for field in Config.__dataclass_fields__}
    here = {
        "env",
        "algos",
        "arms",
        "features",
        "steps",
        "runs",
        "seed",
        "sigma",
        "points",
        "device",
        "print-config",
        "preset",
    }
    assert here <= known
    assert here <= set(named)
    assert {"smoke", "experiment", "benchmark"} <= PRESETS.keys()

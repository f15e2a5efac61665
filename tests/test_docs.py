"""What the README and the docs show runs; their links and lists are whole."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[str]:
    return BLOCK.findall(path.read_text("utf-8"))


def test_there_are_pages_and_code() -> None:
    assert len(PAGES) >= 10
    assert sum(len(blocks(path)) for path in PAGES) >= 5


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_python_on_a_page_compiles(path: Path) -> None:
    for code in blocks(path):
        compile(code, str(path), "exec")


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_the_example_of_a_page_runs(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = [c for c in blocks(ROOT / name) if "class LeastSquares" in c]
    space: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, name, "exec"), space)
    assert np.isfinite(space["result"].theta).all()
    uploads = int(re.findall(r"(\d+) uploads", capsys.readouterr().out)[0])
    assert 4 <= uploads < 1000


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 200


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_page_is_in_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text("utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert f": {path.name}\n" in site


def test_what_the_api_page_names_is_there() -> None:
    pytest.importorskip("torch")
    from importlib import import_module

    names = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.M)
    assert len(names) >= 15
    for name in names:
        module, _, last = name.rpartition(".")
        try:
            assert hasattr(import_module(module), last)
        except AttributeError:
            import_module(name)

"""Who may import whom, read from the source; and the size of the house."""

import ast
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lasg_flwr"
FILES = sorted(PACKAGE.rglob("*.py"))
GROUND = {
    *("checks", "errors", "history", "layout", "ledger", "random", "registry"),
    "vectors",
}
BELOW: dict[str, set[str]] = {
    "rules": set(),
    "codecs": set(),
    "memory": {"codecs"},
    "optim": set(),
    "oracles": set(),
    "config": {"codecs", "memory", "optim", "rules"},
    "protocol": {"codecs", "config", "memory", "optim", "oracles", "rules"},
    "simulation": {"config", "oracles", "protocol"},
    "reference": {"oracles", "rules"},
    "flower": {"codecs", "config", "protocol"},
    "clients": {"codecs", "config", "flower", "memory", "oracles", "protocol"},
    "strategies": {"codecs", "config", "flower", "memory", "protocol", "rules"},
    "cli": {"__init__", "oracles", "simulation"},
    "__init__": {"config", "oracles", "protocol", "simulation"},
}
"""What each floor may import besides the ground and itself."""
FLOWER = {"flower", "clients", "strategies"}


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports."""
    package = (path.parent.relative_to(ROOT)).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            parent = ".".join((*base, *filter(None, [node.module])))
            found |= {f"{parent}.{alias.name}" for alias in node.names} | {parent}
    return found


def own_layers(path: Path) -> set[str]:
    """Layers of this package that a file imports."""
    inside = {n.split(".")[1] for n in imports_of(path) if n.startswith("lasg_flwr.")}
    return inside & {layer_of(file) for file in FILES}


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 80
    assert own_layers(PACKAGE / "protocol" / "worker.py") >= {"memory", "rules"}
    assert {layer_of(path) for path in FILES} == GROUND | BELOW.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path: Path) -> None:
    layer, uses = layer_of(path), own_layers(path)
    allowed = GROUND | BELOW.get(layer, set()) | {layer}
    assert uses <= allowed, f"{layer} must not import {sorted(uses - allowed)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_outside_imports(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports_of(path)}
    assert not tops & {"experiments", "tests", "torchvision", "sklearn", "matplotlib"}
    if layer_of(path) not in FLOWER:
        assert "flwr" not in tops
    if path.parent != PACKAGE / "oracles" / "torch":
        assert "torch" not in tops


def _functions(path: Path) -> list[int]:
    """Lines of each function."""
    return [
        node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    ]


def test_the_house_has_small_rooms() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    assert max(lines.values()) <= 300, max(lines, key=lines.__getitem__)
    assert median(lines.values()) <= 120
    assert median(n for path in FILES for n in _functions(path)) <= 12
    assert len(list(PACKAGE.glob("*.py"))) <= 12


def test_the_core_loads_neither_flwr_nor_torch() -> None:
    code = (
        "import sys, lasg_flwr, lasg_flwr.protocol.saving, lasg_flwr.reference\n"
        "print([m for m in ('flwr', 'torch', 'ray', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_no_module_is_imported_by_name_of_the_links() -> None:
    for name in ("clients", "strategies"):
        link = ROOT / name
        assert link.is_symlink()
        assert link.resolve() == PACKAGE / name


WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder
import pytest

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        hidden = name.split(".")[0] in ("torch", "torchvision")
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path = [Finder if f is PathFinder else f for f in sys.meta_path]
options = ["--collect-only", "-q", "-p", "no:cacheprovider"]
sys.exit(pytest.main([*options, "tests", "lasg_flwr", "experiments"]))
"""


def test_pytest_collects_everything_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "torch is not installed" in done.stdout

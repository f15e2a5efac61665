"""Who may import whom, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lasg_flwr"
GROUND = {"errors", "vectors", "history", "registry", "random"}
FLOWER = {"records", "traffic", "clients", "strategies"}
FILES = sorted(PACKAGE.rglob("*.py"))


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
    names = imports_of(path)
    inside = {n.split(".")[1] for n in names if n.startswith("lasg_flwr.")}
    known = {layer_of(file) for file in FILES}
    return inside & known


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 30
    assert own_layers(PACKAGE / "worker.py") >= {"memories", "rules", "codecs"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path: Path) -> None:
    layer, uses = layer_of(path), own_layers(path)
    if layer in GROUND:
        assert uses <= GROUND
    if layer in ("rules", "coding"):
        assert uses <= GROUND | {layer}
    if layer == "codecs":
        assert uses <= GROUND | {"codecs", "coding"}
    if layer not in FLOWER:
        assert not uses & FLOWER
    if layer == "clients":
        assert "strategies" not in uses
    if layer == "strategies":
        assert "clients" not in uses


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_outside_imports(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports_of(path)}
    assert not tops & {"experiments", "tests", "torchvision", "sklearn", "matplotlib"}
    if layer_of(path) not in FLOWER:
        assert "flwr" not in tops
    if not path.name.startswith("torch_"):
        assert "torch" not in tops


def test_the_core_loads_neither_flwr_nor_torch() -> None:
    code = (
        "import sys, lasg_flwr, lasg_flwr.snapshot, lasg_flwr.worker_state\n"
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

"""The house rules, read from the source: layers, cycles, who may import ray and torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "medray"

# Imports point to the same unit or to a lower layer, never sideways or up.
LAYERS: dict[str, int] = {
    "errors": 0,
    "schema": 0,
    "extras": 1,
    "spec": 1,
    "storage": 1,
    "provenance": 1,
    "dicom": 2,
    "models": 2,
    "metrics": 2,
    "explain": 2,
    "privacy": 2,
    "records": 2,
    "molecules": 2,
    "manifest": 2,
    "client": 2,
    "package_store": 2,
    "workload": 3,
    "dataset": 3,
    "calibration": 3,
    "items": 3,
    "package": 4,
    "workloads": 4,
    "ingest": 5,
    "train": 6,
    "score": 6,
    "deliver": 6,
    "report": 6,
    "serve": 7,
    "generate": 7,
    "reinforce": 7,
    "evaluate": 7,
    "inspection": 7,
    "explanation": 7,
    "embedding": 7,
    "export": 7,
    "crossval": 8,
    "api": 9,
    "demo": 10,
    "cli": 11,
    "__main__": 12,
}
# Down within one layer, said once: these pairs are allowed.
ALLOWED_SIDEWAYS = {
    ("spec", "provenance"),
    ("package", "workloads"),
    ("provenance", "storage"),
    ("api", "demo"),
    ("evaluate", "generate"),
    ("reinforce", "generate"),
}
RAY = {"ingest", "train", "score", "serve", "crossval"}
TORCH = {
    "workload",
    "workloads",
    "models",
    "explain",
    "package",
    "train",
    "score",
    "reinforce",
    "evaluate",
    "crossval",
    "serve",
}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _unit(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def _imports(path: Path) -> set[str]:
    """Every imported module, those under TYPE_CHECKING and inside functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def _units_of(names: set[str]) -> set[str]:
    return {n.split(".")[1] for n in names if n.startswith("medray.") and n.split(".")[1] in LAYERS}


def test_every_unit_has_a_layer() -> None:
    assert {_unit(p) for p in _modules()} - {""} == set(LAYERS)


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    unit = _unit(path)
    if not unit:
        return
    for other in _units_of(_imports(path)) - {unit}:
        down = LAYERS[other] < LAYERS[unit]
        assert down or (unit, other) in ALLOWED_SIDEWAYS, f"{unit} imports {other}"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_ray_and_torch_stay_in_their_rooms(path: Path) -> None:
    tops = {name.split(".")[0] for name in _imports(path)}
    assert "ray" not in tops or _unit(path) in RAY, f"{path} imports ray"
    assert "torch" not in tops or _unit(path) in TORCH, f"{path} imports torch"
    assert "pickle" not in tops, f"{path} imports pickle"


def test_no_import_cycles_between_modules() -> None:
    graph: dict[str, set[str]] = {}
    names = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in _modules()
    }
    for name, path in names.items():
        at_top: set[str] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                at_top.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:  # a sibling module, or a name of the module itself
                    whole = f"{node.module}.{alias.name}"
                    at_top.add(whole if whole in names else node.module or "")
        graph[name] = {m for m in at_top if m in names and m != name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_starts_neither_torch_nor_ray(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['medray', *sys.argv[1:]]\n"
        "from medray.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'ray', 'numpy', 'pyarrow', 'monai'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_machine_paths_in_the_tree() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in listed:
        if name.endswith((".py", ".yaml", ".md", ".toml", "Makefile")):
            text = (ROOT / name).read_text(encoding="utf-8")
            for prefix in ("/" + "root/", "/" + "work/", "/" + "home/"):
                assert prefix not in text, f"{name} names {prefix}"

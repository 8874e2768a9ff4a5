"""The layout as the documentation draws it: imports run one way between rooms, and one way inside each room."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ROOMS = {"dataflows": set(), "ops": {"dataflows"}, "tui": {"ops", "dataflows"}}
"""Which other rooms each room may import from."""
LAYERS = {
    "dataflows": (
        {"errors", "sql_text"},
        {"files"},
        {"objects"},
        {"source"},
        {"landing"},
        {"lakehouse"},
        {"serving"},
        {"iceberg"},
        {"driver", "extract", "export"},
    ),
    "ops": (
        {"config"},
        {"host"},
        {"integrity"},
        {"journal"},
        {"pipelines"},
        {"workers", "demo", "explain", "query"},
        {"health"},
        {"supervisor"},
        {"cli"},
    ),
    "tui": ({"widgets"}, {"shell"}, {"overview", "runs", "query", "releases", "logs", "workers"}),
}
"""The folders and modules of each room, lowest first: each imports from lower ones only, never from its neighbours."""
LOOSE_MODULES = {"dataflows": 6, "ops": 4, "tui": 0}
"""How many modules may lie beside the folders of a room."""


def modules(room: str) -> dict[str, Path]:
    """The modules of a room by dotted name."""
    return {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((PROJECT / room).rglob("*.py"))
    }


def imports(path: Path) -> Iterator[str]:
    """The dotted names a module imports, wherever in it; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(name: str) -> tuple[int, str] | None:
    """The layer and the folder of a dotted name; None for the room's own `__init__` and for names outside."""
    room, _, rest = name.partition(".")
    folder = rest.partition(".")[0]
    for number, layer in enumerate(LAYERS.get(room, ())):
        if folder in layer:
            return number, folder
    return None


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_from_the_rooms_below(room: str) -> None:
    others = {*ROOMS, "tests", "bench", "transform"} - ROOMS[room] - {room}
    wrong = {
        name: found
        for name, path in modules(room).items()
        if (found := sorted({each.partition(".")[0] for each in imports(path)} & others))
    }
    assert wrong == {}


@pytest.mark.parametrize("room", ROOMS)
def test_folders_import_only_from_the_folders_below(room: str) -> None:
    wrong = []
    for name, path in modules(room).items():
        place = layer_of(name)
        for each in imports(path):
            target = layer_of(each) if each.startswith(f"{room}.") else None
            if place and target and place[1] != target[1] and target[0] >= place[0]:
                wrong.append(f"{name} imports {each}")
    assert wrong == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_has_a_layer(room: str) -> None:
    assert [name for name in modules(room) if name != room and layer_of(name) is None] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_layer_has_modules(room: str) -> None:
    known = {place[1] for name in modules(room) if (place := layer_of(name))}
    assert known == {folder for layer in LAYERS[room] for folder in layer}


@pytest.mark.parametrize("room", ROOMS)
def test_modules_lie_in_folders(room: str) -> None:
    loose = [path.name for path in (PROJECT / room).glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= LOOSE_MODULES[room], loose


def test_the_sqlmesh_project_imports_only_the_lakehouse_and_the_as_of_macros() -> None:
    paths = sorted((PROJECT / "transform").rglob("*.py"))
    found = {each for path in paths for each in imports(path) if each.partition(".")[0] in ROOMS}
    allowed = tuple(f"dataflows.lakehouse.{name}" for name in ("ducklake", "spark", "stores"))
    allowed += ("dataflows.serving.asof",)
    assert len(paths) > 5 and [each for each in sorted(found) if not each.startswith(allowed)] == []


def test_dataflows_read_no_environment() -> None:
    """A dataflow gets its values as arguments; only what Hamilton and SQLMesh read is set where they run."""
    readers = {
        name
        for name, path in modules("dataflows").items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert readers <= {"dataflows.driver", "dataflows.lakehouse.child"}


def test_dataflows_know_no_terminal() -> None:
    names = {each.partition(".")[0] for path in modules("dataflows").values() for each in imports(path)}
    assert names & {"click", "rich", "textual"} == set()

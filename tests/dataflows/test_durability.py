"""Whatever takes a name that is read later was flushed before, and its folder afterwards."""

import ast
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataflows.lakehouse import child
from dataflows.landing.local import LocalLanding
from dataflows.source.archive import Archive
from dataflows.source.release import release_of
from ops.health.memory import Memory, write_memory
from ops.workers.caps import Caps, Entry, Ledger
from tests.dataflows.conftest import HASTE, MONTH, POSTED_AT
from tests.dataflows.serving.building import publish, published_store
from tests.dataflows.serving.test_gate import snapshot
from tests.support.durable import recorded
from tests.support.psd_files import DATASET

PROJECT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)

FLUSHED = {
    "dataflows/files.py": {"move_durably"},
    "dataflows/lakehouse/child.py": {"_project"},
    "dataflows/serving/store.py": {"publish", "_serve"},
}
"""Where files are renamed that must survive a power cut: the tests below show that they do."""
NOT_FLUSHED = {
    "ops/integrity/quarantine.py": {"set_aside"},  # undone, it is damage that is found again; the folders are flushed
    "ops/supervisor/housekeeping.py": {"_rotate"},  # a log; after a power cut the next tick rotates it again
    "ops/health/state_file.py": {"write_state"},  # the next tick writes the heartbeat and the memory again
    "tui/logs/systemd.py": {"_write"},  # a copy of systemd's journal, made again from it
    "ops/query/export.py": {"write_file"},  # a person exports again; no program relies on the file
    "tui/query/history.py": {"add"},  # the queries that were typed; their loss costs no data
}


def renaming(path: Path) -> set[str]:
    """The functions of a module that rename a file."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                    owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
                    # `str.replace` takes two texts, `datetime.replace` and `dataclasses.replace` take keywords.
                    is_path = call.func.attr in {"rename", "replace"} and len(call.args) == 1 and not call.keywords
                    is_os = owner in {"os", "shutil"} and call.func.attr in {"rename", "replace", "renames", "move"}
                    if is_path or is_os:
                        found.add(function.name)
    return found


def test_every_rename_is_known_to_be_flushed_or_not_to_need_it() -> None:
    found = {
        str(path.relative_to(PROJECT)): functions
        for room in ("dataflows", "ops", "tui")
        for path in (PROJECT / room).rglob("*.py")
        if (functions := renaming(path))
    }
    assert found == FLUSHED | NOT_FLUSHED


def test_a_publish_flushes_database_and_sidecar_before_their_names_and_names_before_they_are_served(
    tmp_path: Path,
) -> None:
    store = published_store(tmp_path)
    with recorded() as seen:
        publish(store)
    seen.check()
    assert [Path(each.target).name for each in seen.renames] == [
        "serving-2.json",
        "serving-2.duckdb",
        "serving.duckdb",
    ]
    assert seen.renames[-1].unflushed_names == frozenset()
    assert seen.is_flushed(store.path(2)) and seen.is_flushed(store.path(2).with_suffix(".json"))


def test_a_rollback_and_a_removal_flush_their_folder(tmp_path: Path) -> None:
    store = published_store(tmp_path, 3)
    with recorded() as seen:
        store.rollback()
        seen.check()
        seen.unflushed["removed"] = str(tmp_path.resolve())
        store.prune(keep=1, grace_s=0)
    seen.check()


def test_the_copy_of_installed_models_is_flushed_before_sqlmesh_may_load_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = shutil.copytree(child.PROJECT_DIR / "macros", tmp_path / "site-packages" / "sqlmesh_materia")
    monkeypatch.setattr(child, "PROJECT_DIR", installed)
    monkeypatch.setenv("SQLMESH_CACHE_DIR", str(tmp_path / "cache"))
    with recorded() as seen:
        copy = child._project()
    seen.check()
    files = [path for path in copy.rglob("*") if path.is_file()]
    assert len(files) > 5 and all(seen.is_flushed(path) for path in files)
    assert child._project() == copy and [each.name for each in copy.parent.iterdir()] == ["project"]


def test_a_landed_snapshot_is_flushed_and_its_marker_comes_last(tmp_path: Path) -> None:
    landing = LocalLanding(tmp_path / "landing")
    landing.workspace.mkdir(parents=True)
    zip_path, rows_path = landing.workspace / "a.zip", landing.workspace / "a.parquet"
    zip_path.write_bytes(b"zip")
    rows_path.write_bytes(b"rows")
    with recorded() as seen:
        landing.land(snapshot("e1"), zip_path, rows_path)
    seen.check()
    assert [Path(each.target).name for each in seen.renames] == ["rows.parquet", "e1.zip", "e1.json"]
    assert seen.renames[-1].unflushed_names == frozenset()


def test_the_validators_of_a_download_are_flushed_before_its_first_byte(coffee, tmp_path: Path) -> None:
    coffee.post(MONTH, b"PK\3\4" + bytes(1000), POSTED_AT)
    archive = Archive(HASTE)
    with recorded() as seen:
        archive.download(release_of(coffee.url, DATASET, MONTH), tmp_path / "part.zip")
    archive.close()
    seen.check()
    assert [Path(each.target).name for each in seen.renames] == ["part.zip.validators"]


def test_the_supervisors_memory_is_flushed(tmp_path: Path) -> None:
    with recorded() as seen:
        write_memory(tmp_path, Memory())
    seen.check()
    assert len(seen.renames) == 1


@pytest.mark.parametrize("act", ["begin", "end", "void"])
def test_a_line_of_the_workers_ledger_is_flushed_before_a_machine_is_asked_for(tmp_path: Path, act: str) -> None:
    ledger = Ledger(tmp_path / "workers.jsonl")
    entry = Entry("box", 0.01, NOW, NOW + timedelta(hours=1), provider="hetzner")
    if act != "begin":
        ledger.begin(entry, Caps(1, 1.0, 1.0), 0, NOW)
    with recorded() as seen:
        if act == "begin":
            ledger.begin(entry, Caps(1, 1.0, 1.0), 0, NOW)
        else:
            getattr(ledger, act)("box", "hetzner", NOW)
    assert seen.is_flushed(ledger.path)

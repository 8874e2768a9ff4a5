"""What Materia keeps, damaged by whatever damages files: typed errors that name the file, nothing else broken."""

import json
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dataflows.errors import JournalError, MateriaError, ServingError
from dataflows.lakehouse.sync import Version
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.serving import ServingReader
from dataflows.serving.generation import read_sidecar, sidecar_of
from dataflows.serving.store import ServingStore
from ops.health.heartbeat import beat, heartbeat_path, read_heartbeat
from ops.health.memory import memory_path, read_memory
from ops.host.exits import Exit
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.workers.caps import Entry, Ledger
from tests.dataflows.serving.building import published_store
from tests.support.command_line import materia
from tests.support.torture import count

NOW = datetime(2025, 11, 15, tzinfo=UTC)
MARKER = {
    "dataset": "psd_coffee",
    "url": "http://127.0.0.1/x",
    "etag": None,
    "last_modified": "Fri, 14 Nov 2025 17:00:00 GMT",
    "release_year": 2025,
    "release_month": 11,
    "released_on": "2025-11-14",
    "size_bytes": 1,
    "sha256": "0" * 64,
    "member": "psd_coffee.csv",
    "row_count": 1,
    "landed_at": "2025-11-15T00:00:00+00:00",
    "key": "k",
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FILES = (b"", b"\0" * 100, b"null", b"[]", b"1", b'"x"', b"{}", b"{", b"\xff\xfe{}", b"[" * 200_000, b'{"a":' * 100_000)
quietly = settings(
    max_examples=count(30, 5_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def damaged(draw: st.DrawFn, record: dict[str, Any]) -> bytes:
    """A record of ours with fields changed, missing or added, as JSON."""
    changed = {**record}
    for name in draw(st.lists(st.sampled_from([*record, "new"]), min_size=1, max_size=3)):
        if draw(st.booleans()):
            changed[name] = draw(anything)
        else:
            changed.pop(name, None)
    return json.dumps(changed).encode()


def outcome(read: Callable[[], object]) -> object:
    """What it gives, or the typed error; anything else comes through."""
    try:
        return read()
    except MateriaError as error:
        return error


@quietly
@given(damaged(MARKER) | st.sampled_from(FILES) | st.binary(max_size=50))
def test_a_damaged_marker_is_named_or_sound(tmp_path: Path, content: bytes) -> None:
    landing = LocalLanding(tmp_path)
    landing.marker_path("k").parent.mkdir(exist_ok=True)
    landing.marker_path("k").write_bytes(content)
    found = outcome(landing.snapshots)
    if isinstance(found, MateriaError):
        assert "k.json" in str(found)
    else:
        (snapshot,) = found
        assert landing.rows_path(snapshot).resolve().is_relative_to(tmp_path / "raw")
        assert Snapshot.from_json(snapshot.to_json(), "again") == snapshot


@pytest.mark.parametrize("key", ["../../x", "/etc/x", "", ".", "a/b", "a\0b", "x" * 5000, 7, None])
def test_a_marker_never_leads_out_of_the_landing(tmp_path: Path, key: object) -> None:
    for field in ("key", "dataset"):
        with pytest.raises(MateriaError, match=r"k\.json"):
            Snapshot.from_marker(json.dumps(MARKER | {field: key}), "k", "k.json")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ServingStore:
    return published_store(tmp_path_factory.mktemp("served"))


@quietly
@given(st.data())
def test_a_damaged_sidecar_is_named_or_sound(store: ServingStore, tmp_path: Path, data: st.DataObject) -> None:
    record = json.loads(sidecar_of(store.path(1)).read_text())
    content = data.draw(damaged(record) | st.sampled_from(FILES) | st.binary(max_size=50))
    path = tmp_path / "serving-1.duckdb"
    sidecar_of(path).write_bytes(content)
    found = outcome(lambda: read_sidecar(path))
    if isinstance(found, MateriaError):
        assert "serving-1.json" in str(found)
    else:
        found.to_json()
        assert isinstance(utc_now() - found.created_at, timedelta)


@quietly
@given(st.data())
def test_damaged_signs_of_life_ledgers_and_pointers_are_named_or_sound(tmp_path: Path, data: st.DataObject) -> None:
    heartbeat_path(tmp_path).parent.mkdir(exist_ok=True)
    beat(tmp_path, NOW, "waiting")
    beating = json.loads(heartbeat_path(tmp_path).read_text())
    heartbeat_path(tmp_path).write_bytes(data.draw(damaged(beating) | st.sampled_from(FILES)))
    found = outcome(lambda: read_heartbeat(tmp_path))
    if not isinstance(found, MateriaError):
        assert found.pause_s + (NOW - found.at).total_seconds() is not None
    memory_path(tmp_path).write_bytes(data.draw(damaged({"attempts": {}, "alerts": {}, "cleaned_at": None})))
    outcome(lambda: read_memory(tmp_path))
    entry = {"name": "w", "eur_per_hour": 0.1, "begun_at": NOW.isoformat(), "due_at": NOW.isoformat(), "ended_at": None}
    ledger = Ledger(tmp_path / "workers.jsonl")
    ledger.path.write_bytes(data.draw(damaged(entry)) + b"\n" + json.dumps(entry).encode() + b"\n")
    spent = outcome(lambda: ledger.eur_within_a_day(NOW))
    assert isinstance(spent, float) or "workers.jsonl, line 1" in str(spent)
    outcome(lambda: Version.from_json(data.draw(damaged({"number": 1, "files": []}) | st.sampled_from(FILES)), "x"))


def test_the_ledger_reads_what_it_wrote(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "workers.jsonl")
    ledger._append(Entry("w", 0.1, NOW, NOW + timedelta(hours=1)))
    assert ledger.eur_within_a_day(NOW) == 0.1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("arguments", "{"),
        ("arguments", "[" * 100_000),
        ("arguments", "null"),
        ("snapshots", "7"),
        ("started_at", "yesterday"),
        ("started_at", "2025-11-14T00:00:00"),
        ("ended_at", "99999-01-01"),
    ],
    ids=lambda value: value[:20],
)
def test_a_row_that_makes_no_sense_is_a_journal_error(tmp_path: Path, column: str, value: str) -> None:
    journal = Journal(tmp_path / "runs.sqlite")
    run = journal.begin("extract")
    journal.finish(run.id, RunStatus.DONE)
    journal.close()
    with sqlite3.connect(journal.path) as db:
        db.execute(f"UPDATE runs SET {column} = ?", (value,))
    db.close()
    with pytest.raises(JournalError, match=r"runs\.sqlite"):
        journal.runs()
    with pytest.raises(JournalError, match=r"runs\.sqlite"):
        journal.last_by_pipeline()


def test_a_row_that_a_damaged_table_fills_in_is_a_journal_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "runs.sqlite")
    journal.begin("extract")
    journal.close()
    with sqlite3.connect(journal.path) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, ?)", ("DEFAULT '[]'", "DEFAULT 'x]'"))
    db.close()
    with pytest.raises(JournalError, match=r"invalid row 2 .*runs\.sqlite; move"):
        journal.begin("extract")


@quietly
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=64)), min_size=1, max_size=8))
@example([(3989, b"\x01")])  # in what a table fills in
@example([(60, (-7).to_bytes(4, "big", signed=True))])  # where SQLite keeps `user_version`
def test_a_spoiled_journal_is_an_error_or_still_a_journal(tmp_path: Path, spots: list[tuple[int, bytes]]) -> None:
    journal = Journal(tmp_path / "runs.sqlite")
    for path in tmp_path.iterdir():
        path.unlink()
    for pipeline in ("extract", "transform"):
        journal.finish(journal.begin(pipeline).id, RunStatus.DONE)
    journal.close()
    content = bytearray(journal.path.read_bytes())
    for at, put in spots:
        at %= len(content)
        content[at : at + len(put)] = put
    journal.path.write_bytes(content)
    for read in (journal.runs, journal.last_by_pipeline, lambda: journal.steps(1), lambda: journal.begin("extract")):
        outcome(read)
    journal.close()


SERVED: dict[str, Callable[[Path], object]] = {
    "a link to itself": lambda path: path.symlink_to(path.name),
    "two links in a circle": lambda path: (path.symlink_to("other"), path.with_name("other").symlink_to(path.name)),
    "a link to nothing": lambda path: path.symlink_to("serving-9.duckdb"),
    "a link to passwd": lambda path: path.symlink_to("/etc/passwd"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "an empty file": lambda path: path.write_bytes(b""),
    "rubbish": lambda path: path.write_bytes(os.urandom(1 << 16)),
    "half a database": lambda path: path.write_bytes(
        path.with_name("serving-1.duckdb").read_bytes()[: path.with_name("serving-1.duckdb").stat().st_size // 2]
    ),
}


@pytest.mark.parametrize("name", SERVED)
def test_a_rollback_or_publish_repairs_any_file_at_the_serving_path(tmp_path: Path, name: str) -> None:
    store = published_store(tmp_path)
    store.serving_path.unlink()
    SERVED[name](store.serving_path)
    with ServingReader(store.serving_path) as reader, pytest.raises(ServingError):
        reader.query("SELECT 1", timeout_s=5)
    outcome(store.served)
    restored = outcome(lambda: store.rollback(1))
    if isinstance(restored, ServingError):
        assert "move it away" in str(restored)
    else:
        with ServingReader(store.serving_path) as reader:
            assert reader.query("SELECT count(*) AS n FROM serving.fct_psd").table.to_pydict() == {"n": [100]}


def test_the_commands_survive_it_all_at_once(tmp_path: Path) -> None:
    published_store(tmp_path)
    (tmp_path / "serving.duckdb").unlink()
    (tmp_path / "serving.duckdb").symlink_to("serving.duckdb")
    (tmp_path / "serving-1.json").write_bytes(b"\xff" * 100)
    (tmp_path / "runs.sqlite").write_bytes(os.urandom(8192))
    (tmp_path / "landing/psd").mkdir(parents=True)
    (tmp_path / "landing/psd/k.json").write_bytes(b"[" * 100_000)
    for arguments, code in ((("status",), Exit.UNWELL), (("query", "SELECT 1"), Exit.FAILED), (("runs",), Exit.FAILED)):
        done = materia(tmp_path, *arguments)
        assert (done.returncode, "unexpected" in done.stderr) == (code, False), done.stderr

"""The swap-aware reader: current and complete answers without blocking anyone."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dataflows.errors import (
    QueryError,
    QueryRefusedError,
    QueryTimeoutError,
    ReaderClosedError,
    ServingBrokenError,
    ServingMissingError,
)
from dataflows.serving import ServingReader, database
from dataflows.serving.database import new_cursor, open_read_only
from dataflows.serving.generation import FOREIGN_NUMBER, sidecar_of
from dataflows.serving.reader import query_error
from dataflows.serving.store import ServingStore
from tests.dataflows.serving.building import ROWS, damaged_blocks, publish, published_store, write_database

ROOT = Path(__file__).parents[3]
NUMBERS = "SELECT min(value) AS low, max(value) AS high FROM serving.fct_psd"
SLOW = "SELECT max(a.i * b.i + c.i) AS high FROM serving.fct_psd a, range(100000) b(i), range(1000) c(i)"


def number_of(reader: ServingReader) -> int:
    """The number that rows and generation agree on."""
    answer = reader.query(NUMBERS)
    (row,) = answer.table.to_pylist()
    assert row["low"] == row["high"]
    if answer.generation.number != FOREIGN_NUMBER:
        assert answer.generation.number == row["low"]
    return row["low"]


def open_files(directory: Path) -> list[str]:
    """The files below `directory` that this process holds open."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = str(fd.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(str(directory)):
            found.append(Path(target.removesuffix(" (deleted)")).name)
    return sorted(found)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_query_gives_arrow_and_the_generation_it_came_from(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    with ServingReader(store.serving_path) as reader:
        answer = reader.query("SELECT i FROM serving.fct_psd WHERE i < $top ORDER BY i", {"top": 3})
        assert answer.generation == store.served()
    assert answer.table.to_pydict() == {"i": [0, 1, 2]}  # an answer outlives its reader


def test_macros_and_generation_resolve_under_their_contract_names(tmp_path: Path) -> None:
    with ServingReader(published_store(tmp_path).serving_path) as reader:
        for macro in ("serving.psd_asof", "psd_asof", "materia.serving.psd_asof"):
            asked = reader.query(f"SELECT DISTINCT asked FROM {macro}(?)", [date(2025, 6, 30)])
            assert asked.table.to_pydict() == {"asked": [date(2025, 6, 30)]}
        for table in ("serving.fct_psd", "fct_psd", "materia.serving.fct_psd"):
            assert reader.query(f"FROM {table}").table.num_rows == ROWS
        row = reader.query("SELECT number, snapshot_etags, row_counts FROM serving.generation").table.to_pylist()
        assert row == [{"number": 1, "snapshot_etags": ["one", "two"], "row_counts": [("fct_psd", ROWS)]}]


def test_every_query_after_a_publish_or_rollback_sees_it(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    with ServingReader(store.serving_path) as reader:
        for _ in range(5):
            published = publish(store)
            assert reader.generation() == published
            assert number_of(reader) == published.number
        assert store.rollback(2).number == number_of(reader) == 2
        assert open_files(tmp_path) == ["serving-2.duckdb"]


def test_a_running_query_finishes_on_its_own_generation(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    with ServingReader(store.serving_path) as reader:
        with reader.cursor() as (cursor, generation):
            stream = cursor.execute("SELECT value FROM serving.fct_psd, range(1000)").to_arrow_reader(10_000)
            first = stream.read_next_batch()
            publish(store)
            assert number_of(reader) == 2
            store.prune(keep=1, grace_s=0)
            assert open_files(tmp_path) == ["serving-1.duckdb", "serving-2.duckdb"]
            rest = stream.read_all()
            assert generation.number == 1
            assert first.num_rows + rest.num_rows == ROWS * 1000
            assert rest.column("value").unique().to_pylist() == [1]
        assert open_files(tmp_path) == ["serving-2.duckdb"]


def test_a_copied_generation_keeps_its_description(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    store = published_store(tmp_path / "origin", generations=2)
    shutil.copy(store.path(2), tmp_path / "serving.duckdb")
    with ServingReader(tmp_path / "serving.duckdb") as reader:
        generation = reader.generation()
    assert (generation.number, generation.sha256, generation.snapshots) == (2, "", ("one", "two"))


def test_a_file_of_unknown_origin_is_generation_zero(tmp_path: Path) -> None:
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE anything AS SELECT 5 AS value")
    with ServingReader(path) as reader:
        assert reader.query("SELECT value FROM anything").table.to_pydict() == {"value": [5]}
        assert reader.generation().number == FOREIGN_NUMBER
        assert reader.generation().created_at.timestamp() == pytest.approx(path.stat().st_mtime)


def test_nothing_served_is_a_typed_error_that_says_what_to_do(tmp_path: Path) -> None:
    with ServingReader(tmp_path / "serving.duckdb") as reader:
        with pytest.raises(ServingMissingError, match="materia run-all"):
            reader.query("SELECT 1")
        published_store(tmp_path)
        assert number_of(reader) == 1


def test_a_broken_swap_is_an_error_and_the_reader_recovers_after_its_repair(tmp_path: Path) -> None:
    store = published_store(tmp_path, generations=2)
    with ServingReader(store.serving_path) as reader:
        assert number_of(reader) == 2
        (tmp_path / "bad.duckdb").write_text("not a database" * 1000)
        for target in ("bad.duckdb", "gone.duckdb", ".", store.serving_path.name):
            store.serving_path.unlink()
            store.serving_path.symlink_to(target)
            for _ in range(2):
                with pytest.raises(ServingBrokenError):
                    reader.query(NUMBERS)
        store.rollback(1)
        assert number_of(reader) == 1
    assert open_files(tmp_path) == []


def test_corrupt_blocks_are_an_error_and_the_reader_recovers(tmp_path: Path) -> None:
    path = tmp_path / "serving.duckdb"
    with duckdb.connect(str(tmp_path / "broken.duckdb")) as con:
        con.execute("CREATE SCHEMA s; CREATE TABLE s.fct_psd AS SELECT hash(i) AS h FROM range(1000000) AS r(i)")
    content = bytearray((tmp_path / "broken.duckdb").read_bytes())
    for at in range(len(content) // 4, len(content) // 2, 1024):
        content[at] ^= 0xFF
    write_database(tmp_path / "whole.duckdb", 2)
    (tmp_path / "broken.duckdb").write_bytes(content)
    (tmp_path / "broken.duckdb").replace(path)
    with ServingReader(path) as reader:
        for _ in range(2):
            with pytest.raises(ServingBrokenError):
                reader.query("SELECT bit_xor(h) FROM s.fct_psd")
        (tmp_path / "whole.duckdb").replace(path)
        assert number_of(reader) == 2


def test_a_file_that_failed_is_opened_again_by_the_next_query(tmp_path: Path) -> None:
    store = ServingStore(tmp_path / "serving.duckdb")
    publish(store, rows=100_000)
    path, reads_blocks = store.serving_path, "SELECT bit_xor(hash(i)) FROM serving.fct_psd"
    with ServingReader(path) as reader:
        reader.generation()
        with damaged_blocks(path):
            with pytest.raises(ServingBrokenError, match="cannot be read"):
                reader.query(reads_blocks)
            with pytest.raises(ServingBrokenError, match="cannot be opened"):
                reader.query(reads_blocks)
        assert number_of(reader) == 1
        with damaged_blocks(path):
            with pytest.raises(ServingBrokenError), reader.cursor():
                raise ServingBrokenError("a failure while the rows were read")
            with pytest.raises(ServingBrokenError, match="cannot be opened"):
                reader.query(reads_blocks)


def test_a_file_that_failed_for_a_cursor_leaves_a_newer_one_open(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    with ServingReader(store.serving_path) as reader:
        with pytest.raises(ServingBrokenError), reader.cursor():
            publish(store)
            assert number_of(reader) == 2
            newer = reader._current
            raise ServingBrokenError("a failure of the old file")
        assert number_of(reader) == 2 and reader._current is newer


def test_queries_share_one_cursor_and_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created = []
    monkeypatch.setattr(database, "new_cursor", lambda root: created.append(new_cursor(root)) or created[-1])
    before = set(threading.enumerate())
    reader = ServingReader(published_store(tmp_path).serving_path)
    for _ in range(3):
        assert number_of(reader) == 1
        reader.check(NUMBERS)
        reader.query("SELECT 1", timeout_s=2)
    assert len(created) == 1
    (watching,) = (each for each in set(threading.enumerate()) - before if each.name == "serving-deadlines")
    until(lambda: not watching.is_alive())  # also of a reader that nobody closes
    assert reader.query("SELECT 1 AS one", timeout_s=60).table.to_pylist() == [{"one": 1}]
    with pytest.raises(QueryTimeoutError):
        reader.query(SLOW, timeout_s=0.1)
    reader.close()


def test_a_file_is_closed_after_its_last_use(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    with ServingReader(store.serving_path) as reader:
        with reader.cursor() as (first, _), ExitStack() as longer:
            second, _ = longer.enter_context(reader.cursor())
            assert number_of(reader) == 1
            old = reader._current
            assert old is not None
            (idle,) = old.idle
            publish(store)
            assert number_of(reader) == 2
            longer.close()
            with pytest.raises(duckdb.ConnectionException):
                second.execute(NUMBERS)
            assert first.execute(NUMBERS).fetchall() == [(1, 1)]
        current = reader._current
        assert current is not None
    for connection in (first, idle, old.root, current.root):
        with pytest.raises(duckdb.ConnectionException):
            connection.execute(NUMBERS)


def test_a_reader_that_is_closed_while_it_opens_the_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ServingReader(published_store(tmp_path).serving_path)

    def open_and_close(*args: Any, **limits: Any) -> duckdb.DuckDBPyConnection:
        reader.close()
        return open_read_only(*args, **limits)

    monkeypatch.setattr(database, "open_read_only", open_and_close)
    with pytest.raises(ReaderClosedError, match="closed while it opened the file"):
        reader.query(NUMBERS)
    assert open_files(tmp_path) == []


def test_a_query_that_is_interrupted_from_outside_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created = []
    monkeypatch.setattr(database, "new_cursor", lambda root: created.append(new_cursor(root)) or created[-1])
    with ServingReader(published_store(tmp_path).serving_path) as reader, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(reader.query, SLOW)
        until(lambda: bool(created))
        while not answer.done():  # an interrupt that arrives before the query starts is lost
            created[0].interrupt()
            time.sleep(0.01)
        with pytest.raises(QueryError, match="the query was interrupted"):
            answer.result()


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (duckdb.InterruptException("Interrupted!"), QueryError, "the query was interrupted"),
        (duckdb.FatalException("the database was invalidated"), ServingBrokenError, "cannot be read"),
        (duckdb.BinderException("too deep"), QueryRefusedError, "write it more simply"),
    ],
)
def test_a_check_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: duckdb.Error, expected: type[Exception], message: str
) -> None:
    class Failing:
        def execute(self, sql: str) -> None:
            raise failure

    with ServingReader(published_store(tmp_path).serving_path) as reader:
        monkeypatch.setattr(database, "new_cursor", lambda root: Failing())
        for use in (reader.query, reader.check):
            with pytest.raises(expected, match=message) as raised:
                use(NUMBERS)
            assert type(raised.value) is expected
        monkeypatch.undo()
        if expected is ServingBrokenError:
            assert number_of(reader) == 1


def test_a_file_that_cannot_be_described_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = published_store(tmp_path)
    opened = []
    monkeypatch.setattr(
        database, "open_read_only", lambda *args, **limits: opened.append(open_read_only(*args, **limits)) or opened[-1]
    )
    sidecar_of(store.path(1)).write_text("{")
    with ServingReader(store.serving_path) as reader, pytest.raises(ServingBrokenError):
        reader.query(NUMBERS)
    (root,) = opened
    with pytest.raises(duckdb.ConnectionException):
        root.execute("SELECT 1")


def test_a_folder_in_the_place_of_the_served_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "serving.duckdb").mkdir()
    with ServingReader(tmp_path / "serving.duckdb") as reader, pytest.raises(ServingBrokenError, match="is no file"):
        reader.query(NUMBERS)


def test_duckdb_is_imported_by_the_first_query_only() -> None:
    code = "import sys, dataflows.serving.reader; sys.exit('duckdb' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_fault_of_duckdbs_own_is_no_damage_of_the_file(tmp_path: Path) -> None:
    error = query_error(duckdb.InternalException("INTERNAL Error: inequal types\nStack Trace: …"), tmp_path)
    assert type(error) is QueryError
    assert "INTERNAL Error: inequal types. Write it another way" in str(error) and "Stack" not in str(error)


def test_bad_sql_and_bad_parameters_are_errors_with_duckdbs_message(tmp_path: Path) -> None:
    with ServingReader(published_store(tmp_path).serving_path) as reader:
        for sql, message in (
            ("SELEC 1", "syntax error"),
            ("SELECT nope FROM serving.fct_psd", "nope"),
            ("SELECT * FROM serving.nope", "nope"),
            ("SELECT 'x'::INTEGER", "Could not convert"),
            ("SELECT ?", "parameter"),
        ):
            with pytest.raises(QueryError, match=message):
                reader.query(sql)
        with pytest.raises(QueryError):
            reader.query("SELECT 1", [1])
        with pytest.raises(QueryError):
            reader.query("SELECT ?", [object()])
        assert number_of(reader) == 1


def test_sql_that_writes_or_reads_another_file_is_refused(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    with ServingReader(store.serving_path) as reader:
        for sql in ("DELETE FROM serving.fct_psd", "SELECT 1; SELECT 2"):
            for use in (reader.query, reader.check):
                with pytest.raises(QueryRefusedError):
                    use(sql)
        with pytest.raises(QueryRefusedError, match="disabled"):
            reader.query(f"FROM '{store.path(1).with_suffix('.csv')}'")
        assert number_of(reader) == 1


def test_the_last_texts_that_were_checked_are_remembered_unless_they_are_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataflows.serving.reader._CHECKED_QUERIES", 2)
    monkeypatch.setattr("dataflows.serving.reader._CHECKED_CHARACTERS", len("SELECT 1"))
    with ServingReader(published_store(tmp_path).serving_path) as reader:
        for sql in ("SELECT 1", "SELECT 2", "SELECT 3", "SELECT 44"):
            reader.query(sql)
        assert list(reader._checked) == ["SELECT 2", "SELECT 3"]


def test_a_query_that_needs_too_much_memory_fails_without_a_file_on_disk(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    with ServingReader(store.serving_path, memory_limit_bytes=64 * 2**20, threads=1) as reader:
        with pytest.raises(QueryError, match="Out of Memory"):
            reader.query("SELECT list(i ORDER BY hash(i)) FROM range(50000000) AS r(i)")
        assert number_of(reader) == 1


def test_a_timeout_stops_its_query_and_no_other(tmp_path: Path) -> None:
    with ServingReader(published_store(tmp_path).serving_path) as reader:
        for _ in range(3):
            with pytest.raises(QueryTimeoutError, match=r"0\.05 s"):
                reader.query(SLOW, timeout_s=0.05)
            for _ in range(50):
                assert reader.query("SELECT 1 AS one", timeout_s=30).table.to_pydict() == {"one": [1]}


def test_a_cursors_query_can_be_interrupted_from_another_thread(tmp_path: Path) -> None:
    with ServingReader(published_store(tmp_path).serving_path) as reader, reader.cursor() as (cursor, _):
        started = threading.Event()

        def interrupt_until_it_ends() -> None:
            started.wait()
            while started.is_set():
                cursor.interrupt()
                time.sleep(0.01)

        thread = threading.Thread(target=interrupt_until_it_ends)
        thread.start()
        started.set()
        with pytest.raises(duckdb.InterruptException):
            cursor.execute(SLOW).fetchall()
        started.clear()
        thread.join()
        assert number_of(reader) == 1


def test_leaving_a_cursor_with_a_query_halfway_waits_for_nothing(tmp_path: Path) -> None:
    with ServingReader(published_store(tmp_path).serving_path) as reader:
        with reader.cursor() as (cursor, _):
            endless = "SELECT a.i FROM serving.fct_psd a, range(1000000000) b(i)"
            cursor.execute(endless).to_arrow_reader(1000).read_next_batch()
        assert number_of(reader) == 1
    assert open_files(tmp_path) == []


def test_close_is_idempotent_and_lets_running_queries_finish(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    reader = ServingReader(store.serving_path)
    query = "SELECT max(a.i + b.i) AS high FROM serving.fct_psd a, range(1000000) b(i)"
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(reader.query(query).table.to_pydict())
        except ReaderClosedError:
            outcomes.append("closed")

    number_of(reader)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: reader._current is not None and reader._current.users > 0)
    closing = [threading.Thread(target=reader.close) for _ in range(4)]
    for thread in (*closing, *threads):
        if thread in closing:
            thread.start()
    for thread in (*closing, *threads):
        thread.join()
    reader.close()
    finished = {"high": [ROWS - 1 + 999_999]}
    assert finished in outcomes
    assert all(outcome in (finished, "closed") for outcome in outcomes)
    for use in (lambda: reader.query("SELECT 1"), reader.generation, lambda: reader.check("SELECT 1")):
        with pytest.raises(ReaderClosedError):
            use()
    assert open_files(tmp_path) == []


def test_a_reader_that_never_read_closes(tmp_path: Path) -> None:
    ServingReader(tmp_path / "serving.duckdb").close()


def test_two_readers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    with ServingReader(store.serving_path, threads=1) as one:
        with ServingReader(store.serving_path, memory_limit_bytes=2**28) as other:
            assert number_of(one) == number_of(other) == 1
        assert number_of(one) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_plain_file_that_is_swapped_while_it_is_opened_is_read_as_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path, new = tmp_path / "copied.duckdb", tmp_path / "new.duckdb"
    write_database(path, 1)
    write_database(new, 2)
    opened = []

    def open_and_swap(*arguments, **options):
        """The real function; the first time the file is swapped around it."""
        if not opened and moment == "before":
            new.replace(path)
        root = open_read_only(*arguments, **options)
        if not opened and moment == "after":
            new.replace(path)
        opened.append(root)
        return root

    monkeypatch.setattr("dataflows.serving.database.open_read_only", open_and_swap)
    with ServingReader(path) as reader:
        answer = reader.query("SELECT DISTINCT value FROM serving.fct_psd")
        assert answer.table.to_pydict() == {"value": [2]}
        assert answer.generation.number == 2
        assert len(opened) == 2
        with pytest.raises(duckdb.ConnectionException):
            opened[0].execute("SELECT 1")  # what was opened first is closed


def test_a_file_that_is_swapped_each_time_it_is_opened_is_given_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "copied.duckdb"
    write_database(path, 1)
    opened = []

    def open_and_swap(*arguments, **options):
        root = open_read_only(*arguments, **options)
        opened.append(root)
        (tmp_path / "copy").write_bytes(path.read_bytes())
        (tmp_path / "copy").replace(path)
        return root

    monkeypatch.setattr("dataflows.serving.database.open_read_only", open_and_swap)
    with ServingReader(path) as reader, pytest.raises(ServingBrokenError, match="replaced 50 times"):
        reader.query("SELECT 1")
    assert len(opened) == 50


def test_a_generation_that_is_removed_while_it_is_opened_gives_way_to_the_served_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = published_store(tmp_path)
    opened = []

    def publish_first(path, **options):
        if not opened:
            opened.append(path)
            publish(store)
            store.prune(keep=1, grace_s=0)
        return open_read_only(path, **options)

    monkeypatch.setattr("dataflows.serving.database.open_read_only", publish_first)
    with ServingReader(store.serving_path) as reader:
        assert reader.generation().number == 2
    assert opened == [store.path(1)]

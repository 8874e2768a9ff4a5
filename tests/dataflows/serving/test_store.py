"""The store of generations: publish, rollback, verify, prune, and death at every step."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from dataflows.errors import ServingBrokenError, ServingError, ServingMissingError
from dataflows.serving import Generation, ServingReader
from dataflows.serving.generation import FOREIGN_NUMBER, sidecar_of
from dataflows.serving.generation_table import read_generation_table
from dataflows.serving.store import ServingStore
from dataflows.serving.verify import verify_in_fresh_process
from tests.dataflows.serving.building import ROWS, facts_of, publish, published_store, write_database

ROOT = Path(__file__).parents[3]


def names(store: ServingStore) -> set[str]:
    return {path.name for path in store.serving_path.parent.iterdir()}


def value_of(path: Path) -> int:
    """What a foreign reader, without anything of ours, finds through the serving path."""
    code = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[1], read_only=True);"
        "print(con.execute('SELECT max(value) FROM serving.fct_psd').fetchone()[0],"
        " con.execute(\"SELECT count(*) FROM serving.psd_asof(DATE '2025-01-01')\").fetchone()[0])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    value, rows = run.stdout.split()
    assert int(rows) == ROWS
    return int(value)


def test_nothing_is_served_before_the_first_publish(tmp_path: Path) -> None:
    store = ServingStore(tmp_path / "serving.duckdb")
    assert (store.served(), store.generations(), store.next_number()) == (None, (), 1)
    assert ServingStore(tmp_path / "nowhere" / "serving.duckdb").generations() == ()


def test_publish_serves_the_new_generation_and_describes_it(tmp_path: Path) -> None:
    store = published_store(tmp_path, generations=2)
    served = store.served()
    assert served is not None and served.number == 2
    assert dict(served.row_counts) == {"fct_psd": ROWS}
    assert served.size_bytes == store.path(2).stat().st_size
    assert store.serving_path.readlink() == Path("serving-2.duckdb")  # relative: the directory may move
    assert [generation.number for generation in store.generations()] == [1, 2]
    assert value_of(store.serving_path) == 2


def test_a_sidecar_is_unchanged_after_write_and_read(tmp_path: Path) -> None:
    generation = Generation(**vars(facts_of(7)), size_bytes=12, sha256="ab")
    forced = dataclasses.replace(generation, forced_reason="because", newest_released_on=None)
    for one in (generation, forced):
        assert Generation.from_json(one.to_json(), tmp_path) == one


def test_the_database_file_contains_its_generation_number(tmp_path: Path) -> None:
    facts = write_database(tmp_path / "one.duckdb", 3)
    with duckdb.connect(str(tmp_path / "one.duckdb"), read_only=True) as con:
        assert read_generation_table(con) == facts


def test_published_files_are_read_only(tmp_path: Path) -> None:
    assert published_store(tmp_path).path(1).stat().st_mode & 0o777 == 0o444


def test_rollback_serves_the_generation_before(tmp_path: Path) -> None:
    store = published_store(tmp_path, generations=3)
    assert store.rollback().number == 2
    assert store.rollback().number == 1
    with pytest.raises(ServingMissingError, match="nothing before 1"):
        store.rollback()
    assert store.rollback(3).number == 3
    assert value_of(store.serving_path) == 3
    store.rollback(1)
    assert publish(store).number == 4


def test_rollback_to_a_changed_or_missing_generation_is_refused(tmp_path: Path) -> None:
    store = published_store(tmp_path, generations=2)
    corrupt(store.path(1))
    with pytest.raises(ServingBrokenError, match="sha256"):
        store.rollback(1)
    with pytest.raises(ServingMissingError, match="generation 9"):
        store.rollback(9)
    assert value_of(store.serving_path) == 2


def test_verify_reads_a_generation_in_a_fresh_process(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    assert store.verify(1) == store.served()
    found = verify_in_fresh_process(store.path(1), {"fct_psd": ROWS}, timeout_s=60)
    assert (found.generation_number, found.row_counts) == (1, {"fct_psd": ROWS})
    assert found.macro_row_counts == {"psd_asof": ROWS}


def test_verify_compares_the_rows_with_what_the_sidecar_says(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    sidecar = sidecar_of(store.path(1))
    described = json.loads(sidecar.read_text())
    described["row_counts"]["fct_psd"] += 1
    sidecar.write_text(json.dumps(described))
    with pytest.raises(ServingBrokenError, match="rows in a fresh process"):
        store.verify(1)


def test_a_sidecar_shows_until_when_its_generation_was_served(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    os.utime(sidecar_of(store.path(1)), (0, 0))
    publish(store)
    assert sidecar_of(store.path(1)).stat().st_mtime > 0


@pytest.mark.parametrize("expected", [{"fct_psd": ROWS + 1}, {}, {"fct_psd": ROWS, "dim_country": 1}])
def test_verify_refuses_other_rows_than_expected(tmp_path: Path, expected: dict[str, int]) -> None:
    write_database(tmp_path / "one.duckdb", 1)
    with pytest.raises(ServingBrokenError, match=r"rows in a fresh process"):
        verify_in_fresh_process(tmp_path / "one.duckdb", expected, timeout_s=60)


def test_verify_finds_corrupt_blocks(tmp_path: Path) -> None:
    path = tmp_path / "one.duckdb"
    write_database(path, 1, rows=200_000)
    corrupt(path)
    with pytest.raises(ServingBrokenError, match=r"one\.duckdb"):
        verify_in_fresh_process(path, {"fct_psd": 200_000}, timeout_s=60)


def test_verify_names_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "text.duckdb").write_text("not a database" * 1000)
    with pytest.raises(ServingBrokenError, match="not a valid DuckDB database"):
        verify_in_fresh_process(tmp_path / "text.duckdb", {}, timeout_s=60)


def test_verify_gives_up_in_time(tmp_path: Path) -> None:
    write_database(tmp_path / "one.duckdb", 1)
    with pytest.raises(ServingBrokenError, match=r"within 0\.001 s"):
        verify_in_fresh_process(tmp_path / "one.duckdb", {}, timeout_s=0.001)


def test_an_open_file_is_not_published(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    building = store.building_path(2)
    facts = write_database(building, 2)
    with duckdb.connect(str(building)), pytest.raises(ServingError, match="still open"):
        store.publish(building, facts)
    building.with_name(building.name + ".wal").touch()
    with pytest.raises(ServingError, match=r"\.wal"):
        store.publish(building, facts)
    assert value_of(store.serving_path) == 1


def test_a_number_is_never_used_twice(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    facts = write_database(store.building_path(1), 1)
    with pytest.raises(ServingError, match="never reused"):
        store.publish(store.building_path(1), facts)


def test_a_file_built_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store = ServingStore(tmp_path / "data" / "serving.duckdb")
    facts = write_database(tmp_path / "one.duckdb", 1)
    for path in (tmp_path / "one.duckdb", store.building_path(1)):
        with pytest.raises(ServingError, match="build it there"):
            store.publish(path, facts)


def test_a_foreign_file_is_generation_zero_and_is_kept_when_replaced(tmp_path: Path) -> None:
    store = ServingStore(tmp_path / "serving.duckdb")
    write_database(store.serving_path, 77)
    foreign = store.served()
    assert foreign is not None and foreign.number == FOREIGN_NUMBER
    wal = tmp_path / "serving.duckdb.wal"
    wal.touch()
    facts = write_database(store.building_path(1), 1)
    with pytest.raises(ServingError, match="still writes to it"):
        store.publish(store.building_path(1), facts)
    wal.unlink()
    store.publish(store.building_path(1), facts)
    assert value_of(store.serving_path) == 1
    (kept,) = tmp_path.glob("serving-foreign-*.duckdb")
    assert value_of(kept) == 77
    store.prune(keep=1, grace_s=0)
    assert kept.exists()


def test_a_link_to_nothing_and_a_torn_sidecar_are_broken(tmp_path: Path) -> None:
    store = published_store(tmp_path, generations=2)
    (tmp_path / "serving-1.json").write_text('{"number": 1')
    with pytest.raises(ServingBrokenError, match=r"serving-1\.json"):
        store.generations()
    store.path(2).unlink()
    with pytest.raises(ServingBrokenError, match="does not exist"):
        store.served()
    assert store.next_number() == 3


def test_prune_keeps_the_newest_and_the_served(tmp_path: Path) -> None:
    store = published_store(tmp_path, generations=7)
    store.rollback(1)
    store.prune(keep=2, grace_s=0)
    assert [generation.number for generation in store.generations()] == [1, 6, 7]
    assert value_of(store.serving_path) == 1
    with pytest.raises(ServingError, match="at least 1"):
        store.prune(keep=0)


def test_prune_spares_what_somebody_may_be_opening(tmp_path: Path) -> None:
    store = published_store(tmp_path, generations=3)
    store.rollback(1)
    resolved = store.serving_path.resolve()
    publish(store)
    store.prune(keep=1, grace_s=30)
    assert value_of(resolved) == 1
    for sidecar in tmp_path.glob("serving-*.json"):
        os.utime(sidecar, (0, 0))
    store.prune(keep=1, grace_s=30)
    assert [generation.number for generation in store.generations()] == [4]


def test_prune_removes_what_dead_exports_left_and_nothing_else(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    building = "serving-4.duckdb.building"
    left = ("serving-2.duckdb", "serving-3.json", building, f"{building}.wal")
    stray = ("serving.duckdb.wal", "serving-1.duckdb.wal", "serving-1.json.tmp")
    others = ("serving-notes.txt", "lakehouse.duckdb", "serving-1.parquet", "serving-01.duckdb")
    under_way = "serving-5.duckdb.building"
    for name in (*left, *stray, *others, under_way):
        (tmp_path / name).touch()
    (tmp_path / f"{building}.tmp").mkdir()
    removed = {path.name for path in store.prune()}
    assert removed == {*left, *stray, f"{building}.tmp"}
    ours = {"serving.duckdb", "serving-1.duckdb", "serving-1.json", under_way}
    assert names(store) == {*others, *ours}
    assert store.next_number() == 6


def test_publish_clears_a_stray_wal_that_would_make_every_open_fail(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    (tmp_path / "serving.duckdb.wal").write_bytes(b"left by someone")
    publish(store)
    assert value_of(store.serving_path) == 2


DYING_PUBLISH = """
import os, signal, sys
from pathlib import Path
from dataflows.serving.store import ServingStore
from tests.dataflows.serving.building import facts_of

store, number, last_step = ServingStore(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
steps = 0

def dying(action):
    def step(*arguments, **options):
        global steps
        steps += 1
        if steps > last_step:
            os.kill(os.getpid(), signal.SIGKILL)
        return action(*arguments, **options)
    return step

for name in ("open", "fsync", "rename", "replace", "symlink", "unlink", "chmod"):
    setattr(os, name, dying(getattr(os, name)))
store.publish(store.building_path(number), facts_of(number))
"""


def test_a_publish_killed_at_any_step_leaves_a_whole_generation_served(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    used = {1}
    outcomes, served_late = [], False
    with ServingReader(store.serving_path) as reader:
        for last_step in range(60):
            before = store.served()
            assert before is not None
            number = store.next_number()
            assert number > max(used)
            used.add(number)
            write_database(store.building_path(number), number)
            command = [
                sys.executable,
                "-c",
                DYING_PUBLISH,
                str(store.serving_path),
                str(number),
                str(last_step),
            ]
            code = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode
            assert code in (0, -signal.SIGKILL)
            served = store.served()
            assert served is not None and served.number in (before.number, number)
            answer = reader.query("SELECT min(value) AS low, max(value) AS high FROM serving.fct_psd")
            assert answer.table.to_pylist() == [{"low": served.number, "high": served.number}]
            assert answer.generation == served == store.check(served.number)
            newest = store.generations()[-1].number
            served_late |= newest != served.number
            assert store.unserved() == (None if newest == served.number else newest)
            outcomes.append((code, served.number == number))
            if code == 0:
                break
    assert outcomes[0] == (-signal.SIGKILL, False)
    assert (-signal.SIGKILL, True) in outcomes  # killed after the swap, before it was known to be durable
    assert outcomes[-1] == (0, True)
    assert served_late, "killed when it was complete and not yet served"
    assert len(outcomes) > 12
    added = publish(store)
    store.prune(keep=1, grace_s=0)
    assert names(store) == {
        "serving.duckdb",
        f"serving-{added.number}.duckdb",
        f"serving-{added.number}.json",
    }


def test_a_rolled_back_generation_does_not_count_as_never_served(tmp_path: Path) -> None:
    store = published_store(tmp_path, generations=3)
    assert store.unserved() is None
    store.rollback(1)
    assert store.unserved() is None
    swap = tmp_path / "serving.duckdb.swap"
    swap.symlink_to("serving-2.duckdb")  # a rollback that died
    assert store.unserved() is None
    store.prune()
    assert not os.path.lexists(swap)
    swap.symlink_to("serving-3.duckdb")  # as a publish leaves it that died
    store.prune()
    assert store.unserved() == 3
    assert store.rollback(3).number == 3
    assert store.unserved() is None


def test_status_learns_what_is_served_without_opening_a_database(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    code = (
        "import sys; from pathlib import Path; import dataflows.serving;"
        "from dataflows.serving.store import ServingStore;"
        "print(ServingStore(Path(sys.argv[1])).served().number,"
        " {'duckdb', 'pyarrow', 'pandas', 'numpy', 'hamilton', 'sqlmesh'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(store.serving_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert run.stdout == "1 set()\n", run.stderr


def corrupt(path: Path) -> None:
    """Flip a byte in every KiB behind the headers."""
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    for at in range(3 * 4096, len(content), 1024):
        content[at] ^= 0xFF
    path.write_bytes(content)
    os.utime(path)

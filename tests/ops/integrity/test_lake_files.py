"""The scrub reads the files of a lake, and a run builds a lake with damaged files again from the landing."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from dataflows.lakehouse.ducklake import DuckLake, SqliteCatalog
from dataflows.lakehouse.lake_files import check_files
from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.lakehouse.spark_settings import parse_spark
from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from ops.health.status import take_status
from ops.host.exits import Exit
from ops.integrity.damage import known_damage
from ops.integrity.record import Damage, Kind, ScrubRecord, read_record, record_path, write_record
from ops.journal.run import utc_now
from tests.support.command_line import materia
from tests.support.workshop import Workshop

DATASET = "psd_coffee"


@pytest.fixture
def lake(tmp_path: Path) -> DuckLake:
    """A DuckLake with a table of 10,000 rows, some of them deleted."""
    lake = DuckLake(SqliteCatalog(tmp_path / "lake.sqlite"), str(tmp_path / "lake"))
    with duckdb.connect() as connection:
        lake.attach(connection, read_only=False)
        connection.execute("CREATE SCHEMA lakehouse.raw")
        connection.execute("CREATE TABLE lakehouse.raw.facts AS SELECT range AS i, 'x' || range AS s FROM range(10000)")
        connection.execute("DELETE FROM lakehouse.raw.facts WHERE i < 5")
    return lake


def parquet_of(folder: Path) -> Path:
    """The largest Parquet file in a folder."""
    return max(folder.rglob("*.parquet"), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def garble(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.fixture
def spark(tmp_path: Path) -> SparkLakehouse:
    """Two files of a table in a warehouse, one of an environment that nobody needs, and one that is exported."""
    lake = parse_spark({}, tmp_path / "data")
    for name in ("raw.db/facts/day=1/a", "raw.db/facts/day=2/b", "raw.db/facts__old/c", "exported/fct_psd/d"):
        path = Path(lake.warehouse, f"{name}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        duckdb.execute(f"COPY (SELECT range AS i, 'x' || range AS s FROM range(10000)) TO '{path}'")
    lake.record_files(["raw.db/facts"])
    return lake


@pytest.mark.parametrize(
    ("change", "was_checked", "why"),
    [
        (cut, False, "bytes instead of"),
        (garble, False, "it can't be decoded"),
        (Path.unlink, False, "it is missing"),
        (flip, True, "its sha256 is not that of the last check"),
        (garble, True, "its sha256 is not that of the last check"),
    ],
)
@pytest.mark.parametrize(("kind", "count"), [("lake", 2), ("spark", 3)])
def test_a_damaged_file_of_a_lake_is_found(
    change: Callable[[Path], None], was_checked: bool, why: str, kind: str, count: int, request: pytest.FixtureRequest
) -> None:
    lake: DuckLake | SparkLakehouse = request.getfixturevalue(kind)
    whole = list(check_files(lake, {}))
    assert [each.why for each in whole] == [None] * count, "of the DuckLake the data and what was deleted of it"
    known = {each.where: each.sha256 for each in whole} if was_checked else {}
    path = parquet_of(
        Path(lake.data if isinstance(lake, DuckLake) else lake.warehouse, "raw.db/facts" if kind == "spark" else "")
    )
    change(path)
    (found,) = [each for each in check_files(lake, known) if each.why]
    assert found.where == str(path)
    assert found.why is not None and why in found.why


def test_a_lost_or_cut_file_of_sparks_warehouse_is_seen_without_a_scrub(spark: SparkLakehouse, tmp_path: Path) -> None:
    settings = Settings.from_environ({"MATERIA_GATEWAY": "spark", "MATERIA_DATA_DIR": str(tmp_path / "data")})
    assert settings.lake == spark and known_damage(settings) == ()
    lost, short = sorted(Path(spark.warehouse, "raw.db/facts").rglob("*.parquet"))
    lost.unlink()
    cut(short)
    assert [(each.where, each.why[:6]) for each in known_damage(settings)] == [
        (str(lost), "it is "),
        (str(short), "it has"),
    ]
    spark.forget_files()
    assert len(known_damage(settings)) == 2, "until it is repaired"
    spark.record_files(["raw.db/facts"])
    assert known_damage(settings) == () and len(list(check_files(spark, {}))) == 2
    spark.forget_files()
    assert list(check_files(spark, {})) == [], "a transform writes there"


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    settings = Settings.from_environ({"MATERIA_DATA_DIR": str(tmp_path)})
    damage = Damage(Kind.LAKE_FILE, "a.parquet", "it is missing")
    write_record(settings, ScrubRecord(utc_now(), utc_now(), damage=(damage,)))
    path = record_path(settings)
    path.write_text(path.read_text().replace(Kind.LAKE_FILE, "DuckLake file"))
    assert read_record(settings).damage == (damage,)


def test_a_lake_with_a_damaged_file_is_built_again_from_the_landing(tmp_path: Path) -> None:
    environ = {
        "MATERIA_GATEWAY": "ducklake",
        "DUCKLAKE_CATALOG": f"sqlite:{tmp_path}/lake.sqlite",
        "DUCKLAKE_DATA": str(tmp_path / "lake"),
        "PSD_DATASET": DATASET,
    }
    workshop = Workshop(tmp_path / "data", DATASET)
    for release in generate(HistorySpec(DATASET, rows=500, releases=2, first_month=Month(2025, 3))):
        workshop.land(release)
    settings = Settings.from_environ({**environ, "MATERIA_DATA_DIR": str(workshop.data_dir)})

    def run(*arguments: str, exit_code: Exit = Exit.DONE) -> str:
        done = materia(workshop.data_dir, *arguments, timeout_s=120, **environ)
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def problems() -> dict[str, str]:
        return {each.key: each.next_step for each in take_status(settings, utc_now()).problems}

    run("pipeline", "run", "export_serving")
    assert "all match their records" in run("scrub")
    assert len(read_record(settings).lake_files) > 10
    assert "lakehouse-damaged" not in problems()
    with duckdb.connect() as connection:
        settings.lake.attach(connection, read_only=True)
        before = connection.execute("SELECT count(*), bit_xor(hash(f)) FROM lakehouse.serving.fct_psd AS f").fetchall()

    path = parquet_of(tmp_path / "lake" / "sqlmesh__cleaned")
    flip(path)
    assert f"{Kind.LAKE_FILE} {path} is damaged: its sha256 is not that" in run("scrub", exit_code=Exit.FAILED)
    assert problems()["lakehouse-damaged"] == "materia run-all, which builds it again from the landing"

    record = record_path(settings).read_bytes()
    assert "the lakehouse was emptied and is built again" in run("pipeline", "run", "transform")
    record_path(settings).write_bytes(record)  # another machine that shares the lake has a record of its own
    assert "was emptied" not in run("pipeline", "run", "transform")
    assert "lakehouse-damaged" not in problems()
    assert "all match their records" in run("scrub")
    with duckdb.connect() as connection:
        settings.lake.attach(connection, read_only=True)
        after = connection.execute("SELECT count(*), bit_xor(hash(f)) FROM lakehouse.serving.fct_psd AS f").fetchall()
    assert after == before

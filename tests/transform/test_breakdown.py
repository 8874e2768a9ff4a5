"""What happens to lakehouse and served generation when something breaks, is tampered with, is killed or is edited."""

import io
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import duckdb
import psutil
import pytest

from dataflows import export
from dataflows.errors import GateError, LakehouseError, LandingError, LockHeldError, TransformError
from dataflows.lakehouse.transform import PROJECT_DIR
from dataflows.serving import gate
from ops.demo.generator import GeneratedRelease
from ops.host.lock import writer_lock
from tests.support.workshop import Workshop
from tests.transform.conftest import HISTORY, ROWS_A_BATCH, Copied
from tests.transform.reference import read, rekeyings, served_versions, versions

Releases = tuple[GeneratedRelease, ...]
ROOT = PROJECT_DIR.parents[1]
KILLS = 1
"""The crash matrix (tests/torture/crash) kills at every step; here it is the lock that counts."""

TRANSFORMING = """
import sys
from pathlib import Path
from dataclasses import replace
from dataflows import export
from dataflows.lakehouse import transform
from dataflows.serving import gate
from ops.host.lock import writer_lock
from tests.support.workshop import Workshop

workshop = Workshop(Path(sys.argv[1]))
with writer_lock(workshop.data_dir / "writer.lock", "test") as lock:
    lakehouse = replace(workshop.lakehouse, inherited_fds=(lock.fileno(),))
    landed, rows_a_batch = export.landed(workshop.landing, lakehouse), map(int, sys.argv[2:])
    print(transform.run(lakehouse, landed, *rows_a_batch), flush=True)
    print(gate.is_current(workshop.serving, workshop.landing.snapshots(), workshop.dataset), flush=True)
"""


def test_a_tampered_lakehouse_is_not_exported(served: Workshop, copied: Copied) -> None:
    """One audit run names every model that is wrong: a row that is gone, a NULL, a row that is there twice."""
    workshop = copied(served)
    change_table(
        workshop, "stg_psdalldata__commodity", "DELETE FROM {table} WHERE hkey = (SELECT MIN(hkey) FROM {table})"
    )
    change_table(workshop, "fct_uncertain_span", "UPDATE {table} SET reason = NULL WHERE rowid < 3")
    change_table(workshop, "agg_group_balance", "UPDATE {table} SET unit_name = NULL WHERE rowid < 3")
    change_table(
        workshop, "cln_psdalldata__revision", "INSERT INTO {table} FROM {table} WHERE change_kind = 'revised' LIMIT 3"
    )
    with pytest.raises(TransformError) as refused:
        workshop.export()
    message = str(refused.value)
    assert "audit accounts_for_every_row of staging.stg_psdalldata__commodity found" in message
    assert "rows_gained_by_marker" in message, "the first of the rows are shown"
    assert "audit not_null of serving.fct_uncertain_span found 3" in message
    assert "audit one_row_per_key of serving.agg_group_balance found 3" in message
    assert "audit one_row_per_key of cleaned.cln_psdalldata__revision found 3" in message
    assert message.endswith("move the lakehouse file away; the next run rebuilds it from the landing")
    assert len(message.splitlines()) < 50
    assert workshop.serving.served().number == 1
    assert not list(workshop.data_dir.glob("*.building*"))


def test_a_failed_audit_names_model_and_rows_and_the_next_run_repairs(
    served: Workshop, releases: Releases, copied: Copied
) -> None:
    workshop = copied(served)
    snapshot = workshop.landing.snapshots()[-1]
    workshop.remove(snapshot)
    lying = workshop.land(releases[-1], key="lying", row_count=snapshot.row_count + 7)
    with pytest.raises(TransformError, match="audit accounts_for_every_row") as failed:
        workshop.transform()
    assert f"{snapshot.released_on}" in str(failed.value)
    workshop.remove(lying)
    workshop.land(releases[-1])
    workshop.transform()
    assert workshop.tables() == served.tables()


def test_one_attribute_in_two_units_fails_an_audit_that_names_both(
    served: Workshop, releases: Releases, copied: Copied
) -> None:
    """One column of obt_commodity_metrics would be in two units."""
    workshop = copied(served)
    workshop.remove(workshop.landing.snapshots()[-1])
    workshop.land(in_two_units(releases[-1]))
    with pytest.raises(TransformError, match=r"audit one_unit_per_attribute of serving\.fct_psd") as failed:
        workshop.transform()
    assert "(1000 MT)" in str(failed.value) and "(1000 HA)" in str(failed.value)


def in_two_units(release: GeneratedRelease) -> GeneratedRelease:
    """The release with the unit of its first row in 1000 MT changed to 1000 HA."""
    with zipfile.ZipFile(io.BytesIO(release.zip_bytes)) as archive:
        (member,) = archive.infolist()
        text = archive.read(member).decode()
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text.replace('08,"(1000 MT)"', '04,"(1000 HA)"', 1))
    return replace(release, zip_bytes=changed.getvalue())


def test_a_killed_transform_is_taken_up_where_it_stopped(served: Workshop, releases: Releases, copied: Copied) -> None:
    """The run dies at any moment; its SQLMesh dies with it, and only then is the lock free."""
    workshop = copied(served)
    gone = workshop.landing.snapshots()[1]
    workshop.remove(gone)
    chance = random.Random(7)
    for _ in range(KILLS):
        command = [sys.executable, "-c", TRANSFORMING, workshop.data_dir]
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        child = child_of(run)
        time.sleep(chance.uniform(2.0, 9.0))
        run.kill()
        run.wait()
        assert_lock_follows(child, workshop)
    workshop.transform()
    assert served_versions(workshop) == versions(
        (read(r) for r in releases if r.month != gone.month), rekeyings(workshop)
    )


def test_a_killed_child_is_reported(served: Workshop, copied: Copied) -> None:
    workshop = copied(served)
    killer = subprocess.Popen([sys.executable, "-c", KILLING, str(os.getpid())])
    try:
        with pytest.raises(TransformError, match="was killed by SIGKILL"):
            workshop.transform()
    finally:
        killer.kill()
        killer.wait()


KILLING = """
import sys, time, psutil
for _ in range(600):
    time.sleep(0.05)
    for child in psutil.Process(int(sys.argv[1])).children():
        if "dataflows.lakehouse.child" in child.cmdline():
            child.kill()
            sys.exit()
"""


def test_a_worse_generation_is_refused_unless_forced(served: Workshop, copied: Copied) -> None:
    workshop = copied(served)
    newest = workshop.landing.snapshots()[-1]
    workshop.remove(newest)
    with pytest.raises(GateError, match=f"the served one's {newest.month} of {newest.released_on}"):
        workshop.publish()
    assert workshop.serving.served().number == 1
    forced = workshop.publish(gate.Gate(0.02, forced_reason="the release was withdrawn"))
    assert workshop.serving.served() == forced
    with duckdb.connect(str(workshop.data_dir / "serving.duckdb"), read_only=True) as connection:
        assert "the release was withdrawn" in repr(connection.execute("FROM serving.generation").fetchall())


@pytest.mark.parametrize(("lost_share", "refused"), [(0.01, False), (0.03, True)])
def test_a_table_may_lose_only_its_share(served: Workshop, lost_share: float, refused: bool) -> None:
    generation = served.serving.served()
    rows = generation.row_counts | {"fct_psd": round(generation.row_counts["fct_psd"] * (1 - lost_share))}
    worse = replace(generation, row_counts=rows)
    faults = gate.faults_against(generation, worse, 0.02)
    assert [re.match(r"\w+", fault).group() for fault in faults] == (["fct_psd"] if refused else [])
    missing = replace(generation, row_counts={**rows, "dim_country": 0}, newest_released_on=None)
    assert len(gate.faults_against(generation, missing, 0.02)) == 2 + refused


def test_rows_are_rebuilt_from_the_zip_or_missed_by_name(served: Workshop, copied: Copied) -> None:
    workshop = copied(served)
    snapshot = workshop.landing.snapshots()[0]
    rows = workshop.landing.rows_path(snapshot)
    before = duckdb.sql(f"FROM read_parquet('{rows}')").fetchall()
    rows.unlink()
    export.landed(workshop.landing, workshop.lakehouse)
    assert duckdb.sql(f"FROM read_parquet('{rows}')").fetchall() == before
    rows.unlink()
    workshop.landing.zip_path(snapshot.key).unlink()
    with pytest.raises(LandingError, match=re.escape(str(workshop.landing.zip_path(snapshot.key)))):
        export.landed(workshop.landing, workshop.lakehouse)


def test_a_lakehouse_open_elsewhere_is_a_typed_error(served: Workshop, copied: Copied) -> None:
    workshop = copied(served)
    holding = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holding, workshop.lakehouse.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline()
        with pytest.raises(LakehouseError, match="lock"):
            workshop.publish()
        holder.stdin.close()


def test_an_edited_model_is_tried_beside_production_and_deployed_by_the_next_run(
    served: Workshop, releases: Releases, copied: Copied, tmp_path: Path
) -> None:
    """In a checkout of its own: a bare `plan` shows the difference and leaves production alone, what SQLMesh users type
    by hand breaks nothing, a transform deploys and keeps no superseded table, and what was published by the older code
    is out of date."""
    workshop, checkout = copied(served), checkout_at(tmp_path / "checkout")
    model = checkout / "transform/sqlmesh_materia/models/serving/dim_attribute.sql"
    model.write_text(model.read_text().replace("name::TEXT AS", "UPPER(name)::TEXT AS"))
    (checkout / "transform/sqlmesh_materia/tests/test_serving__dim_attribute.yaml").unlink()
    before = workshop.tables()

    planned = sqlmesh(checkout, workshop.environ, "plan")
    assert "UPPER(name)" in planned and "dim_attribute" in planned
    assert workshop.tables() == before
    assert {name for (name,) in workshop.query("SELECT attribute_name FROM serving__dev.dim_attribute")} == {
        name.upper() for (name,) in workshop.query("SELECT attribute_name FROM serving.dim_attribute")
    }
    day = releases[1].published_at.date()
    standing = [
        workshop.query(f"SELECT * EXCLUDE (attribute_name) FROM {schema}.psd_asof(?) ORDER BY ALL", day)
        for schema in ("serving", "serving__dev")
    ]
    assert standing[0] == standing[1] != []

    sqlmesh(ROOT, workshop.environ, "run")
    assert workshop.tables() == before

    assert transformed_by(checkout, workshop, HISTORY.rows) == [
        "Transformed(releases_processed=0, models_changed=True)",
        "False",
    ]
    assert set(physical_copies(workshop).values()) == {1}
    deployed = workshop.tables()
    assert all(name == name.upper() for _, name in deployed.pop("dim_attribute"))
    named = {"agg_group_balance", "agg_world_balance", "fct_psd", "fct_psd_revision"}
    assert {table for table, rows in deployed.items() if rows != before[table]} == named


def test_a_late_release_that_comes_with_an_edited_model_is_compared(
    served: Workshop, copied: Copied, tmp_path: Path
) -> None:
    """The edit is deployed first, and writes `dim_release` again with every landed release."""
    workshop, checkout = copied(served), checkout_at(tmp_path / "checkout")
    model = checkout / "transform/sqlmesh_materia/models/serving/dim_attribute.sql"
    model.write_text(model.read_text().replace("name::TEXT AS", "UPPER(name)::TEXT AS"))
    in_order = workshop.tables()
    late = workshop.landing.snapshots()[2]
    aside = shutil.copytree(workshop.data_dir / "landing", tmp_path / "landing")
    workshop.remove(late)
    workshop.transform()
    assert workshop.tables()["fct_psd_revision"] != in_order["fct_psd_revision"]
    shutil.copytree(aside, workshop.data_dir / "landing", dirs_exist_ok=True)
    assert transformed_by(checkout, workshop)[0] == "Transformed(releases_processed=2, models_changed=True)"
    unnamed = ("dim_release", "fct_uncertain_span", "agg_release_summary")
    assert {name: workshop.tables()[name] for name in unnamed} == {name: in_order[name] for name in unnamed}


def test_an_edit_that_touches_a_long_history_is_computed_in_batches(
    served: Workshop, copied: Copied, tmp_path: Path
) -> None:
    workshop, checkout = copied(served), checkout_at(tmp_path / "checkout")
    model = checkout / "transform/sqlmesh_materia/models/staging/stg_psdalldata__name.sql"
    model.write_text(model.read_text().replace("  name::TEXT\n", "  UPPER(name)::TEXT AS name\n"))
    before = workshop.tables()
    assert transformed_by(checkout, workshop, ROWS_A_BATCH)[0] == (
        f"Transformed(releases_processed={HISTORY.releases}, models_changed=True)"
    )
    deployed = workshop.tables()
    assert deployed["dim_country"] == [(code, name.upper(), *others) for code, name, *others in before["dim_country"]]
    unnamed = ("dim_release",)
    assert [len(deployed[table]) for table in before] == [len(rows) for rows in before.values()]
    assert [deployed[table] for table in unnamed] == [before[table] for table in unnamed]


def physical_copies(workshop: Workshop) -> Counter[str]:
    """How many versions of each model's table or view the lakehouse holds."""
    names = workshop.query(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables"
        " WHERE starts_with(table_schema, 'sqlmesh__') AND NOT ends_with(table_name, '__temp')"
    )
    return Counter(name.rpartition("__")[0] for (name,) in names)


def checkout_at(folder: Path) -> Path:
    """This code in a folder of its own, to be edited there."""
    for room in ("dataflows", "ops", "transform", "tests"):
        # With the bytecode, which is valid there, too: without it the copy's first process compiles everything.
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns(".cache", "logs"))
    return folder


def transformed_by(checkout: Path, workshop: Workshop, *rows_a_batch: int) -> list[str]:
    """What a transform by that code says that it did, and whether what is published is current by its lights."""
    command = [sys.executable, "-c", TRANSFORMING, str(workshop.data_dir), *map(str, rows_a_batch)]
    completed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.splitlines()


def test_the_models_pass_their_unit_tests(tmp_path: Path) -> None:
    assert "Successfully Ran" in sqlmesh(ROOT, Workshop(tmp_path).environ, "test")


def sqlmesh(checkout: Path, environ: Mapping[str, str], *arguments: str) -> str:
    """What `sqlmesh` prints, run as its users do, with no terminal to ask at."""
    done = subprocess.run(
        [Path(sys.executable).with_name("sqlmesh"), "-p", "transform/sqlmesh_materia", *arguments],
        cwd=checkout,
        env={**environ, "PYTHONPATH": str(checkout)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def change_table(workshop: Workshop, model: str, sql: str) -> None:
    """Write to the physical table behind a model, as no pipeline would."""
    with duckdb.connect(str(workshop.lakehouse.path)) as connection:
        (table,) = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE table_name LIKE '%' || $1 || '__%'",
            [model],
        ).fetchone()
        connection.execute(sql.format(table=table))


def child_of(run: "subprocess.Popen[bytes]") -> psutil.Process:
    """SQLMesh's process, as soon as it is there."""
    for _ in range(600):
        if children := psutil.Process(run.pid).children():
            return children[0]
        time.sleep(0.05)
    raise AssertionError("no child was started")


def assert_lock_follows(child: psutil.Process, workshop: Workshop) -> None:
    """The lock is refused while the child lives, and free once it is gone, which is soon."""
    for _ in range(200):
        try:
            with writer_lock(workshop.data_dir / "writer.lock", "probe"):
                assert not (child.is_running() and child.status() != psutil.STATUS_ZOMBIE)
                return
        except LockHeldError:
            time.sleep(0.05)
    raise AssertionError("child or lock outlived the run")

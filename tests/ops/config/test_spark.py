"""Settings of the Spark gateway: defaults of one host, several hosts, and what is wrong."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dataflows.errors import LakehouseError, SettingsError
from dataflows.lakehouse.ducklake import PostgresCatalog
from ops.config.lakehouse import environ_of
from ops.config.settings import Settings
from ops.config.table import BY_NAME, unknown_names
from ops.workers.secrets import check, worker_environ

PASSWORD = "c4n4ry-P4ssw0rd-of-the-metastore"
CLUSTER = {
    "MATERIA_GATEWAY": "spark",
    "SPARK_MASTER": "spark://one:7077,two:7077",
    "SPARK_WAREHOUSE": "s3a://lake/spark/",
    "SPARK_METASTORE": "postgres:host=db dbname=lake user=materia",
    "SPARK_PASSWORD": PASSWORD,
}


def test_without_settings_spark_is_on_this_host_and_in_the_data_directory(tmp_path: Path) -> None:
    settings = Settings.from_environ({"MATERIA_GATEWAY": "spark", "MATERIA_DATA_DIR": str(tmp_path)})
    spark = settings.lake
    assert spark is settings.spark and not spark.is_shared
    assert (spark.master, spark.warehouse) == ("local[*]", str(tmp_path / "spark" / "warehouse"))
    assert (spark.metastore, spark.state) == (tmp_path / "spark" / "metastore", tmp_path / "spark" / "state.duckdb")
    assert Settings.from_environ({"MATERIA_DATA_DIR": str(tmp_path)}).lake is None, "another gateway does not use it"


def test_a_cluster_is_shared_and_its_state_is_beside_its_metastore() -> None:
    spark = Settings.from_environ(CLUSTER).lake
    assert spark.is_shared and spark.warehouse == "s3a://lake/spark"
    assert spark.state == spark.metastore == spark.lock_at == PostgresCatalog("db", 5432, "lake", "materia", PASSWORD)
    assert spark.properties()["spark.hadoop.javax.jdo.option.ConnectionPassword"] == PASSWORD
    assert PASSWORD not in f"{spark} {spark!r} {spark.metastore_text}"
    assert Settings.from_environ(environ_of(spark)).lake.metastore == spark.metastore, "a child gets the same"


def test_a_hive_metastore_keeps_no_state() -> None:
    spark = Settings.from_environ({**CLUSTER, "SPARK_METASTORE": "thrift://hive:9083"}).lake
    assert isinstance(spark.state, Path) and not spark.is_shared
    assert spark.properties()["spark.hadoop.hive.metastore.uris"] == "thrift://hive:9083"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"SPARK_METASTORE": "mysql:host=db"}, "SPARK_METASTORE is none of derby:/folder"),
        ({"SPARK_METASTORE": f"postgres:host=db password={PASSWORD}"}, "belongs in SPARK_PASSWORD"),
        ({"SPARK_METASTORE": "postgres:host=db"}, "SPARK_METASTORE=postgres:… lacks dbname, user"),
        ({"SPARK_PASSWORD": ""}, "SPARK_METASTORE in PostgreSQL needs SPARK_PASSWORD"),
        ({"SPARK_STATE": "postgres:host=db port=x dbname=a user=b"}, "SPARK_STATE=postgres:… port='x'"),
        ({"MATERIA_GATEWAY": "sparc"}, "is not one of duckdb, ducklake, spark"),
    ],
)
def test_a_wrong_setting_is_refused_without_its_password(given: Mapping[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ({**CLUSTER, **given})
    assert message in str(refused.value) and PASSWORD not in str(refused.value)


def test_the_operators_properties_are_taken_but_for_those_that_change_results(tmp_path: Path) -> None:
    path = tmp_path / "spark.conf"
    path.write_text(
        "# a comment\n\nspark.executor.memory 4g\nspark.ui.enabled = true\n"
        "spark.driver.extraJavaOptions -Da=b -Dc=d\nspark.sql.session.timeZone  America/New_York\n"
    )
    given = {"MATERIA_GATEWAY": "spark", "MATERIA_DATA_DIR": str(tmp_path), "SPARK_PROPERTIES": str(path)}
    properties = Settings.from_environ(given).lake.properties()
    assert (properties["spark.executor.memory"], properties["spark.ui.enabled"]) == ("4g", "true")
    assert properties["spark.driver.extraJavaOptions"].startswith("-Da=b -Dc=d -Dderby.")
    assert properties["spark.sql.session.timeZone"] == "UTC" and properties["spark.sql.ansi.enabled"] == "true"
    path.unlink()
    with pytest.raises(LakehouseError, match=r"fix SPARK_PROPERTIES"):
        Settings.from_environ(given).lake.properties()


def test_a_worker_gets_the_cluster_but_no_file_of_this_host() -> None:
    environ = {**CLUSTER, "SPARK_PROPERTIES": "/etc/spark.conf"}
    assert worker_environ("transform", environ).items() >= CLUSTER.items()
    assert "SPARK_PROPERTIES" not in worker_environ("transform", environ)
    assert {each.name for each in check(environ) if each.wanted_by} >= CLUSTER.keys()
    assert BY_NAME["SPARK_PASSWORD"].is_secret


def test_names_of_sparks_own_are_not_reported_as_unknown() -> None:
    environ = {"SPARK_HOME": "/opt/spark", "SPARK_MASTER_HOST": "one", "SPARK_LOCAL_IP": "::1", "SPARK_METASTOR": "x"}
    assert list(unknown_names(environ)) == [("SPARK_METASTOR", "SPARK_METASTORE")]


def test_reading_the_settings_imports_no_pyspark() -> None:
    code = (
        "import sys; from ops.config.settings import Settings; import ops.health.status, ops.pipelines.run\n"
        "Settings.from_environ({'MATERIA_GATEWAY': 'spark'}).lake.properties(); print('pyspark' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPARK_WAREHOUSE", "~nobody-here/x"),
        ("SPARK_METASTORE", "derby:~nobody-here/x"),
        ("SPARK_STATE", "~nobody-here/x"),
        ("SPARK_PROPERTIES", "~nobody-here/x"),
    ],
)
def test_the_home_folder_of_an_unknown_user_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} names the home folder"):
        Settings.from_environ({name: value})

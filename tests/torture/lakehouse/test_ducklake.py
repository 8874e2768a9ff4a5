"""A lake of several machines that is emptied and built again."""

from pathlib import Path

import pytest

from dataflows import export
from dataflows.lakehouse import transform
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.lakehouse.lake_files import check_files, empty
from ops.host.lakehouse_lock import lakehouse_lock
from tests.support.object_server import BUCKET, ObjectServer
from tests.support.postgres_server import PostgresServer
from tests.support.table_by_table import differences, written_out
from tests.support.workshop import Workshop
from tests.transform.conftest import HISTORY, ROWS_A_BATCH, releases, served

pytestmark = pytest.mark.long

__all__ = ["releases", "served"]  # fixtures


def test_an_emptied_lake_is_built_again(
    served: Workshop, postgres: PostgresServer, server: ObjectServer, tmp_path: Path
) -> None:
    """The catalog is in PostgreSQL, the data in a bucket."""
    lake = DuckLake(postgres.new_catalog(), f"s3://{BUCKET}/lake", server.bucket())
    workshop = Workshop(tmp_path / "data", lake=lake)
    served.copy_landing(workshop)
    landed = export.landed(workshop.landing, workshop.lakehouse)
    for number in range(2):
        done = transform.run(workshop.lakehouse, landed, rows_a_batch=ROWS_A_BATCH)
        assert done.releases_processed == HISTORY.releases
        one, other = tmp_path / f"one-{number}.duckdb", tmp_path / f"other-{number}.duckdb"
        assert differences(written_out(served.lakehouse.store, one), written_out(lake, other)) == {}
        checked = list(check_files(lake, {}))
        assert len(checked) > 20 and all(each.why is None for each in checked)
        with lakehouse_lock(lake, "repair"):
            empty(lake)
        assert list(check_files(lake, {})) == []

"""Old snapshots and unreferenced files are deleted, and nothing else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataflows.iceberg import commit
from dataflows.iceberg.maintenance import remove_unneeded
from tests.iceberg.publishing import Host, host_with, next_generation
from tests.support.lake import Lake

RENAMED = "UPDATE serving.dim_country SET country_name = 'Brasil {}' WHERE country_code = 'BR'"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return host_with(tmp_path / "host")


def test_old_snapshots_and_unreferenced_files_are_deleted(lake: Lake, host: Host) -> None:
    host.publish(lake.address)
    next_generation(host, RENAMED.format(2))
    host.publish(lake.address)
    table = lake.table("dim_country")
    with table.io.new_output(f"{table.location()}/data/left-by-a-killed-publisher.parquet").create() as file:
        file.write(b"never committed")
    before = lake.objects("dim_country/")
    now = datetime.now(UTC)

    removed = remove_unneeded(table, now, keep=timedelta(days=30))
    assert removed == (0, 0)
    assert lake.objects("dim_country/") == before

    removed = remove_unneeded(lake.table("dim_country"), now + timedelta(days=2), keep=timedelta(days=30))
    assert removed == (0, 1)
    assert {Path(key).name for key in before - lake.objects("dim_country/")} == {"left-by-a-killed-publisher.parquet"}

    removed = remove_unneeded(lake.table("dim_country"), now + timedelta(days=31), keep=timedelta(days=30))
    assert removed[0] == 1
    assert len(lake.objects("dim_country/data/")) == len(lake.table("dim_country").snapshots()) == 1
    assert lake.differing(host.path()) == {}


def test_a_publish_expires_old_snapshots(lake: Lake, host: Host) -> None:
    host.publish(lake.address)
    next_generation(host, RENAMED.format(2))
    host.publish(lake.address, now=datetime.now(UTC) + timedelta(days=40))
    assert len(lake.table("dim_country").snapshots()) == 1
    assert len(lake.table("dim_release").snapshots()) == 1


def test_manifests_and_metadata_files_stay_bounded(lake: Lake, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "MAX_MANIFESTS", 2)
    host.publish(lake.address)
    for month in range(1, 4):
        next_generation(
            host,
            f"INSERT INTO serving.fct_psd_revision SELECT * REPLACE (DATE '2026-0{month}-10' AS released_on) "
            "FROM serving.fct_psd_revision LIMIT 1",
        )
        host.publish(lake.address)
        table = lake.table("fct_psd_revision")
        assert len(table.current_snapshot().manifests(table.io)) <= 2
    assert len(lake.table("fct_psd_revision").metadata.metadata_log) <= 10
    assert lake.differing(host.path()) == {}

"""Publishing generations to a real Iceberg REST catalog, read back by pyiceberg and by DuckDB."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate

from dataflows.errors import IcebergError
from dataflows.iceberg import commit, contents
from dataflows.iceberg.publish import published_tables
from tests.iceberg.publishing import TABLES, Host, host_with, next_generation
from tests.support.lake import Lake, with_token
from tests.support.object_server import CANARY, READER


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return host_with(tmp_path / "host")


def countries(lake: Lake) -> set[str]:
    return set(lake.table("dim_country").scan().to_arrow().column("country_name").to_pylist())


def in_between(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Call `happens` once, between the first upload of a publisher and its commit."""
    write_slice, waiting = commit.write_slice, [happens]

    def interrupted(*arguments: Any) -> Iterator[DataFile]:
        yield from write_slice(*arguments)
        if waiting:
            waiting.pop()()

    monkeypatch.setattr(commit, "write_slice", interrupted)


def test_unchanged_tables_get_no_commit(lake: Lake, host: Host) -> None:
    host.publish(lake.address)
    before = lake.heads()
    again = host.publish(lake.address)
    assert lake.heads() == before
    assert str(again) == "generation 1 is in Iceberg: no change"
    next_generation(host, "UPDATE serving.dim_country SET country_name = 'Brasil' WHERE country_code = 'BR'")
    changed = host.publish(lake.address)
    assert [name for name, done in changed.tables.items() if done.changed] == ["dim_country"]
    after = lake.heads()
    assert {name for name in after if after[name] != before[name]} == {"dim_country"}
    assert {name: each.number for name, each in published_tables(lake.address).items() if each} == {
        name: 2 if name == "dim_country" else 1 for name in TABLES
    }


def test_the_tables_of_wasde_reports_are_published_where_a_generation_has_them(lake: Lake, host: Host) -> None:
    columns = "TIMESTAMP '2021-09-10 12:00' AS released_at, 'BR' AS country_code, 86000.0::DOUBLE AS value"
    next_generation(host, f"CREATE TABLE serving.fct_wasde AS SELECT {columns}")
    assert host.publish(lake.address).tables["fct_wasde"].rows == 1
    assert lake.differing(host.path()) == {}


def test_a_release_writes_only_the_changed_slices(lake: Lake, host: Host) -> None:
    host.publish(lake.address)
    before = lake.files("fct_psd")
    next_generation(
        host,
        "UPDATE serving.fct_psd SET last_seen_on = DATE '2025-09-12' WHERE valid_to IS NULL",
        "INSERT INTO serving.fct_psd_revision SELECT * REPLACE (DATE '2025-09-12' AS released_on) "
        "FROM serving.fct_psd_revision LIMIT 1",
    )
    done = host.publish(lake.address).tables
    after = lake.files("fct_psd")
    # The two files of facts closed in June and July stay. The file of current facts is replaced.
    assert (len(before), len(after), len(before & after)) == (3, 3, 2)
    assert done["fct_psd_revision"].rows == 1
    assert lake.differing(host.path()) == {}


def test_old_snapshots_stay_readable_after_column_changes(lake: Lake, host: Host) -> None:
    host.publish(lake.address)
    old = lake.table("agg_release_summary").current_snapshot().snapshot_id
    old_rows = lake.table("agg_release_summary").scan().to_arrow().sort_by("commodity_code").to_pylist()
    next_generation(
        host,
        "ALTER TABLE serving.agg_release_summary ALTER facts_new TYPE INTEGER",
        "ALTER TABLE serving.dim_release ALTER row_count TYPE INTEGER",
        "COMMENT ON COLUMN serving.dim_country.country_name IS 'Cut to 15 letters'",
    )
    host.publish(lake.address)
    next_generation(
        host,
        "ALTER TABLE serving.dim_release ALTER row_count TYPE BIGINT",
        "ALTER TABLE serving.fct_psd ADD COLUMN note VARCHAR DEFAULT 'n'",
        "ALTER TABLE serving.agg_release_summary DROP COLUMN facts_restated",
        "ALTER TABLE serving.agg_release_summary ALTER facts_removed TYPE VARCHAR",
    )
    host.publish(lake.address)
    assert lake.differing(host.path()) == {}
    summary = lake.table("agg_release_summary")
    kinds = {field.name: str(field.field_type) for field in summary.schema().fields}
    assert kinds["facts_removed"] == "string" and "facts_restated" not in kinds
    assert str(lake.table("dim_release").schema().find_type("row_count")) == "long"
    assert lake.table("dim_country").schema().find_field("country_name").doc == "Cut to 15 letters"
    assert summary.scan(snapshot_id=old).to_arrow().sort_by("commodity_code").to_pylist() == old_rows


def test_an_older_generation_never_replaces_another_hosts_newer_one(lake: Lake, host: Host, tmp_path: Path) -> None:
    other = host_with(tmp_path / "other")
    next_generation(other, "UPDATE serving.dim_country SET country_name = 'Brasil' WHERE country_code = 'BR'")
    other.publish(lake.address)
    before = lake.heads()
    with pytest.raises(IcebergError, match=r"generation 2 of another host.*materia run-all"):
        host.publish(lake.address)
    assert lake.heads() == before


def test_a_rollback_is_published_by_the_host_that_has_both(lake: Lake, host: Host) -> None:
    next_generation(host, "UPDATE serving.dim_country SET country_name = 'Brasil' WHERE country_code = 'BR'")
    host.publish(lake.address)
    host.store.rollback(1)
    host.publish(lake.address)
    assert countries(lake) == {"Brazil", "United States"}
    host.store.rollback(2)
    host.publish(lake.address)
    assert countries(lake) == {"Brasil", "United States"}


def test_the_newer_of_two_publishers_wins_and_the_other_leaves_no_file(
    lake: Lake, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other host commits between the upload and the commit of this one."""
    host.publish(lake.address)
    other = Host(host.store.serving_path.parent.rename(tmp_path / "other"))
    host = host_with(tmp_path / "host")
    change = "UPDATE serving.dim_country SET country_name = '{}' WHERE country_code = 'BR'"
    next_generation(host, change.format("Older"))
    next_generation(other, change.format("Newer"), days_later=2)
    in_between(monkeypatch, lambda: other.publish(lake.address))
    with pytest.raises(IcebergError, match="generation 2 of another host"):
        host.publish(lake.address)
    assert countries(lake) == {"Newer", "United States"}
    table = lake.table("dim_country")
    assert len(lake.objects("dim_country/data/")) == len(table.snapshots()) == 2


def test_a_newer_generation_retries_after_an_older_one_committed_first(
    lake: Lake, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = host_with(tmp_path / "other")
    change = "UPDATE serving.dim_country SET country_name = '{}' WHERE country_code = 'BR'"
    next_generation(host, change.format("Newer"), days_later=2)
    next_generation(other, change.format("Older"))
    in_between(monkeypatch, lambda: other.publish(lake.address))
    host.publish(lake.address)
    assert countries(lake) == {"Newer", "United States"}


def test_the_slices_of_two_publishers_are_not_mixed(
    lake: Lake, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other host removes a slice between our upload of another slice and our commit."""
    host.publish(lake.address)
    other = host_with(tmp_path / "other")
    next_generation(other, "DELETE FROM serving.fct_psd WHERE last_seen_on = DATE '2025-06-12'")
    next_generation(
        host, "UPDATE serving.fct_psd SET value = value + 1 WHERE last_seen_on = DATE '2025-07-11'", days_later=2
    )
    in_between(monkeypatch, lambda: other.publish(lake.address))
    host.publish(lake.address)
    assert lake.differing(host.path()) == {}


def test_rows_of_another_writer_are_replaced(lake: Lake, host: Host) -> None:
    host.publish(lake.address)
    table = lake.table("fct_psd")
    table.append(table.scan().to_arrow().slice(0, 1))
    assert lake.table("fct_psd").scan().count() == 11
    assert host.publish(lake.address).tables["fct_psd"].rows == 10
    assert lake.differing(host.path()) == {}


def compact(table: Table) -> None:
    """Commit a snapshot of the same rows, as a catalog's maintenance does; pyiceberg has no public call for it."""
    current = table.current_snapshot()
    assert current is not None
    snapshot_id = table.metadata.new_snapshot_id()
    update = {
        "snapshot_id": snapshot_id,
        "parent_snapshot_id": current.snapshot_id,
        "sequence_number": table.metadata.next_sequence_number(),
        "summary": Summary(Operation.REPLACE),
    }
    table._do_commit(
        (
            AddSnapshotUpdate(snapshot=current.model_copy(update=update)),
            SetSnapshotRefUpdate(**{"ref-name": "main", "snapshot-id": snapshot_id}, type="branch"),
        ),
        (),
    )


def test_a_compaction_by_the_catalog_is_not_a_change(lake: Lake, host: Host) -> None:
    host.publish(lake.address)
    compact(lake.table("fct_psd"))
    assert lake.table("fct_psd").current_snapshot().summary.operation is Operation.REPLACE
    before = lake.heads()
    host.publish(lake.address)
    assert lake.heads() == before


def test_a_slice_of_several_files_is_complete_and_replaced_as_a_whole(
    lake: Lake, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "CELLS_PER_BATCH", 2048)
    next_generation(host, "INSERT INTO serving.fct_psd SELECT fct_psd.* FROM serving.fct_psd, range(1000)")
    host.publish(lake.address)
    assert len(lake.files("fct_psd")) > 3
    assert lake.differing(host.path()) == {}
    monkeypatch.undo()
    next_generation(host, "UPDATE serving.fct_psd SET value = value + 1")
    host.publish(lake.address)
    assert len(lake.files("fct_psd")) == 3
    assert lake.differing(host.path()) == {}


def test_a_column_type_that_iceberg_lacks_is_named(lake: Lake, host: Host) -> None:
    next_generation(host, "ALTER TABLE serving.dim_release ADD COLUMN age INTERVAL")
    with pytest.raises(IcebergError, match=r"'age' has an unsupported type.*dim_release.*cast the column"):
        host.publish(lake.address)
    assert set(lake.heads()) == {"dim_country"}


def test_foreign_tables_are_not_changed(lake: Lake, host: Host) -> None:
    import pyarrow

    lake.catalog.create_namespace(lake.namespace)
    lake.catalog.create_table(f"{lake.namespace}.fct_psd", pyarrow.schema([("x", pyarrow.int64())]))
    before = lake.heads()
    with pytest.raises(IcebergError, match=r"not created by Materia.*ICEBERG_NAMESPACE"):
        host.publish(lake.address)
    assert lake.heads() == before


def test_tables_of_another_dataset_are_not_changed(lake: Lake, host: Host) -> None:
    host.publish(lake.address)
    before = lake.heads()
    with pytest.raises(IcebergError, match="serves psd_alldata, not psd_coffee"):
        host.publish(lake.address, dataset="psd_coffee")
    assert lake.heads() == before


def test_a_bearer_token_opens_the_catalog(lake: Lake, host: Host) -> None:
    host.publish(with_token(lake.address))
    assert set(lake.heads()) == set(TABLES)


def test_catalog_errors_contain_the_cause_and_no_secret(lake: Lake, host: Host) -> None:
    wrong = replace(lake.address, credential=f"nobody:{CANARY}")
    refused = replace(lake.address, credential=None, token=CANARY)
    reading = replace(lake.address, credential=f"{READER.access_key}:{READER.secret_key}")
    silent = replace(lake.address, uri="http://127.0.0.1:9")
    absent = replace(lake.address, warehouse="s3://no-such-warehouse")
    for address, message in (
        (wrong, "OAuthError.*check that ICEBERG_TOKEN"),
        (refused, "UnauthorizedError.*check that ICEBERG_TOKEN"),
        (reading, "ForbiddenError.*check that ICEBERG_TOKEN"),
        (silent, "Connection refused.*try again later"),
        (absent, "no-such-warehouse"),
    ):
        with pytest.raises(IcebergError, match=message) as raised:
            host.publish(address)
        assert CANARY not in f"{raised.value} {raised.value!r} {address!r}"
        assert READER.secret_key not in f"{raised.value} {address!r}"

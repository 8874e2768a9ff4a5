"""Publish a whole generation: every table, then a check that the catalog holds all of them."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import IcebergError
from dataflows.iceberg.catalog import CatalogAddress, catalog_errors, open_catalog
from dataflows.iceberg.commit import Committed, commit_changes, create_table
from dataflows.iceberg.contents import Contents, list_tables, open_generation, read_contents
from dataflows.iceberg.maintenance import remove_unneeded
from dataflows.iceberg.published import Published, check_replaceable, published_of
from dataflows.serving.build import ALL_TABLES
from dataflows.serving.generation import Generation

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyiceberg.catalog.rest import RestCatalog
    from pyiceberg.table import Table

ATTEMPTS = 3
"""How often tables that another publisher changed meanwhile are read and written again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of publishing a generation, per table."""

    number: int
    tables: Mapping[str, Committed] = field(hash=False)

    def __str__(self) -> str:
        changed = [each for each in self.tables.values() if each.changed]
        size_mb = sum(each.size_bytes for each in changed) / 1e6
        written = f"{len(changed)} of {len(self.tables)} tables changed, {size_mb:.1f} MB" if changed else "no change"
        return f"generation {self.number} is in Iceberg: {written}"

    @property
    def step_detail(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Publication:
    """What to publish, where, and when."""

    address: CatalogAddress
    generation: Generation
    dataset: str
    known: Collection[str]
    """The sha256 of every generation that this host has."""
    now: datetime

    def name_of(self, table: str) -> str:
        return f"{self.address.namespace}.{table}"


def publish(publication: Publication, path: Path) -> Outcome:
    """Bring every table of the catalog up to the generation at `path`, each in one atomic commit.

    May be called again after any failure: it publishes the missing tables. Raises MissingToolError without pyiceberg,
    ServingBrokenError for a damaged generation, IcebergError for everything else.
    """
    address, committed = publication.address, dict[str, Committed]()
    with open_generation(path) as connection:
        with catalog_errors(str(address)):
            catalog = open_catalog(address)
            catalog.create_namespace_if_not_exists(address.namespace)
            existing = _load_ours(catalog, publication)
            log.info("catalog opened", extra={"address": str(address), "tables": len(existing)})
        wanted: dict[str, Contents] = {}
        for name in list_tables(connection):
            with catalog_errors(publication.name_of(name)):
                wanted[name] = read_contents(connection, name)
                committed[name] = _publish_table(catalog, connection, wanted[name], publication, existing.get(name))
                log.info("%s: %s", name, committed[name])
        with catalog_errors(str(address)):
            for _ in range(ATTEMPTS):
                existing = _load_ours(catalog, publication)
                behind = [name for name in wanted if not _is_current(existing.get(name), wanted[name])]
                if not behind:
                    return Outcome(publication.generation.number, committed)
                for name in behind:
                    committed[name] = _publish_table(catalog, connection, wanted[name], publication, existing.get(name))
    raise IcebergError(f"another publisher keeps changing {address}; configure it on one host only")


def published_tables(address: CatalogAddress) -> dict[str, Published | None]:
    """Return the published generation per table of our namespace; empty before the first publish."""
    with catalog_errors(str(address)):
        return {name: published_of(table) for name, table in _load_tables(open_catalog(address), address.namespace)}


def _load_tables(catalog: "RestCatalog", namespace: str) -> Iterator[tuple[str, "Table"]]:
    if catalog.namespace_exists(namespace):
        for name in sorted(catalog.list_tables(namespace)):
            yield name[-1], catalog.load_table(name)


def _load_ours(catalog: "RestCatalog", publication: Publication) -> dict[str, "Table"]:
    """Return the existing tables after checking that each may be replaced."""
    tables = _load_tables(catalog, publication.address.namespace)
    found = {name: table for name, table in tables if name in ALL_TABLES}
    for table in found.values():
        check_replaceable(table, publication.dataset, publication.generation, publication.known)
    return found


def _is_current(table: "Table | None", contents: Contents) -> bool:
    """Return whether a table holds the rows; it does not after another publisher was faster, or overwrote them."""
    published = published_of(table) if table else None
    return published is not None and published.slices == contents.slices


def _publish_table(
    catalog: "RestCatalog",
    connection: "DuckDBPyConnection",
    contents: Contents,
    publication: Publication,
    table: "Table | None",
) -> Committed:
    """Bring one table up to the generation. When another publisher was faster, the last step tries again."""
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    name = publication.name_of(contents.table)
    if table is None:
        table = create_table(catalog, name, contents, publication.dataset)
        check_replaceable(table, publication.dataset, publication.generation, publication.known)
    try:
        committed = commit_changes(table, connection, contents, publication.generation)
    except (CommitFailedException, ValidationException) as error:
        log.info("another publisher was faster", extra={"table": name, "error": str(error)})
        return Committed()
    if committed.changed:
        try:
            with catalog_errors(name):
                remove_unneeded(table, publication.now, timedelta(days=publication.address.keep_days))
        except IcebergError as error:
            log.warning("cleanup failed; the next commit tries again", extra={"table": name, "error": str(error)})
    return committed

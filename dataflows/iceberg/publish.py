"""Publish a whole generation: every table, then a check that all tables are complete."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dataflows.errors import IcebergConflictError, IcebergError
from dataflows.files import require_space
from dataflows.iceberg.catalog import CatalogAddress, catalog_errors, open_catalog
from dataflows.iceberg.commit import Committed, Publication, publish_table
from dataflows.iceberg.contents import Contents, contents_of, opened, tables_of
from dataflows.iceberg.maintenance import remove_unneeded
from dataflows.iceberg.state import Published, check_forward, check_ours, published_of
from dataflows.serving.build import SERVING_TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyiceberg.catalog.rest import RestCatalog
    from pyiceberg.table import Table

ROUNDS = 3
"""How often the catalog is checked again for tables that another publisher changed meanwhile."""

log = logging.getLogger(__name__)


class Note(Protocol):
    """The record of a step."""

    detail: str


Step = Callable[[str], AbstractContextManager[Note]]
"""Opens a named step that records the enclosed work."""


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


def publish(address: CatalogAddress, path: Path, publication: Publication, now: datetime, step: Step) -> Outcome:
    """Bring every table of the catalog up to the generation at `path`, each in one atomic commit.

    May be called again after any failure: it publishes the missing tables. Raises MissingToolError without pyiceberg,
    IcebergConflictError when another machine published something later, IcebergError and what is below it.
    """
    with _work_folder(publication.work_dir, path), opened(path, publication.work_dir) as connection:
        with step("catalog_opened") as note:
            catalog = open_catalog(address)
            there = _open_tables(catalog, address, publication)
            note.detail = str(address)
        done: dict[str, Committed] = {}
        wanted: dict[str, Contents] = {}
        for name in tables_of(connection):
            with step(name) as note:
                wanted[name] = contents_of(connection, name)
                table, done[name] = publish_table(
                    catalog, address, connection, wanted[name], publication, there.get(name)
                )
                note.detail = str(done[name])
                if done[name].changed:
                    _clean_up(table, now, address)
        with step("confirmed") as note:
            note.detail = f"{len(there)} tables before, {len(wanted)} now"
            _confirm(catalog, address, connection, wanted, publication)
    return Outcome(publication.generation.number, done)


def published_tables(address: CatalogAddress) -> dict[str, Published | None]:
    """Return the published generation per table of our namespace; empty before the first publish."""
    catalog = open_catalog(address)
    return {name: published_of(table) for name, table in _tables(catalog, address).items()}


def _open_tables(catalog: "RestCatalog", address: CatalogAddress, publication: Publication) -> dict[str, "Table"]:
    """Return our existing tables, after checking owner and age; create the namespace if missing."""
    with catalog_errors(str(address)):
        catalog.create_namespace_if_not_exists(address.namespace)
    found = {name: table for name, table in _tables(catalog, address).items() if name in SERVING_TABLES}
    for name, table in found.items():
        check_ours(table, publication.dataset)
        check_forward(f"{address.namespace}.{name}", published_of(table), publication.generation, publication.known)
    return found


def _tables(catalog: "RestCatalog", address: CatalogAddress) -> dict[str, "Table"]:
    from pyiceberg.exceptions import NoSuchNamespaceError

    with catalog_errors(str(address)):
        try:
            names = catalog.list_tables(address.namespace)
        except NoSuchNamespaceError:
            return {}
        return {name[-1]: catalog.load_table(name) for name in sorted(names)}


def _confirm(
    catalog: "RestCatalog",
    address: CatalogAddress,
    connection: "DuckDBPyConnection",
    wanted: Mapping[str, Contents],
    publication: Publication,
) -> None:
    """Check every table again, and publish those that a slower publisher of an older generation overwrote."""
    for _ in range(ROUNDS):
        there = _open_tables(catalog, address, publication)
        behind = [
            contents
            for name, contents in wanted.items()
            if name not in there or _slices(there[name]) != dict(contents.slices)
        ]
        if not behind:
            return
        for contents in behind:
            publish_table(catalog, address, connection, contents, publication, there.get(contents.table))
    raise IcebergConflictError(f"another publisher keeps changing {address}; let only one host have its settings")


def _slices(table: "Table") -> dict[str, str] | None:
    published = published_of(table)
    return dict(published.slices) if published is not None and published.slices is not None else None


def _clean_up(table: "Table", now: datetime, address: CatalogAddress) -> None:
    """Clean up after a commit; a failure is logged and retried after the next commit."""
    try:
        with catalog_errors(".".join(table.name())):
            remove_unneeded(table, now, timedelta(days=address.keep_days))
    except IcebergError as error:
        log.warning("could not clean up", extra={"table": table.name()[-1], "error": str(error)})


@contextmanager
def _work_folder(work_dir: Path, path: Path) -> Iterator[None]:
    """Create an empty work folder for written slices and DuckDB's spill files; delete it afterwards."""
    shutil.rmtree(work_dir, ignore_errors=True)  # what a killed publisher left
    work_dir.mkdir(parents=True)
    require_space(work_dir, path.stat().st_size + (64 << 20), "publishing to Iceberg")
    try:
        yield
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)

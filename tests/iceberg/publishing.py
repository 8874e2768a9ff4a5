"""Builds small generations and publishes them in this process."""

import shutil
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from dataflows.iceberg.catalog import CatalogAddress
from dataflows.iceberg.publish import Outcome, Publication, publish
from dataflows.serving.build import SERVING_TABLES
from dataflows.serving.generation import Generation, GenerationFacts
from dataflows.serving.generation_table import write_generation_table
from dataflows.serving.store import ServingStore
from tests.support.served import serve

TABLES = ("dim_country", "dim_release", "fct_psd", "fct_psd_revision", "agg_release_summary")
"""Enough tables for these tests: small and partitioned ones. Each further table costs time with every publish."""


@dataclass(frozen=True)
class Host:
    """A data directory with generations."""

    data_dir: Path

    @property
    def store(self) -> ServingStore:
        return ServingStore(self.data_dir / "serving.duckdb")

    def served(self) -> Generation:
        served = self.store.served()
        assert served is not None
        return served

    def path(self) -> Path:
        return self.store.path(self.served().number)

    def publish(self, address: CatalogAddress, now: datetime | None = None, dataset: str = "psd_alldata") -> Outcome:
        known = {each.sha256 for each in self.store.generations()}
        publication = Publication(address, self.served(), dataset, known, now or datetime.now(UTC))
        return publish(publication, self.path())


def host_with(data_dir: Path) -> Host:
    """Serve ten facts as generation 1."""
    data_dir.mkdir()
    serve(data_dir, without=set(SERVING_TABLES) - set(TABLES))
    return Host(data_dir)


def next_generation(host: Host, *statements: str, days_later: int = 1) -> Generation:
    """Serve a copy of the served generation, changed by SQL statements, as the next generation."""
    store, served = host.store, host.served()
    number = store.next_number()
    building = store.building_path(number)
    shutil.copy(host.path(), building)
    building.chmod(0o644)
    known = {field.name: getattr(served, field.name) for field in fields(GenerationFacts)}
    facts = replace(GenerationFacts(**known), number=number, created_at=served.created_at + timedelta(days=days_later))
    with duckdb.connect(str(building)) as connection:
        for statement in statements:
            connection.execute(statement)
        write_generation_table(connection, facts)
        connection.execute("CHECKPOINT")
    return store.publish(building, facts)

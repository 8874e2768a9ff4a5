"""The export dataflow: from landed snapshots to a served generation.

    landed ──────────┬▶ transformed ─▶ lakehouse_pushed ─▶ built
    reports ─────────┤
    lakehouse_pulled ┘

    built ─┬▶ verified ────┬▶ generation ─▶ generations_synced ─▶ iceberg_published
           └▶ gate_faults ─┘

If a node up to `generation` fails, the old generation stays served. Where no object storage or no Iceberg catalog is
configured, or no WASDE report is landed, their nodes do nothing.
"""

import logging
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dataflows.errors import GateError, LandingError
from dataflows.iceberg.catalog import CatalogAddress
from dataflows.iceberg.publish import Outcome, Publication, publish
from dataflows.lakehouse import transform
from dataflows.lakehouse.sync import LakehouseSync, Version
from dataflows.lakehouse.transform import Lakehouse, Transformed, models_digest
from dataflows.landing.local import Landing
from dataflows.landing.snapshot import Snapshot, releases_digest
from dataflows.serving.build import build_generation, row_counts, wasde_check
from dataflows.serving.gate import Gate, faults_against, is_redated
from dataflows.serving.generation import Generation, GenerationFacts
from dataflows.serving.remote import RemoteGenerations
from dataflows.serving.store import GENERATIONS_KEPT, ServingStore
from dataflows.serving.sync import sync_generations
from dataflows.serving.verify import Verification, verify_in_fresh_process
from dataflows.source.formats import WASDE

log = logging.getLogger(__name__)

_VERIFY_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class ReadyLakehouse:
    """A lakehouse that holds every landed release and passed its audits."""

    landed: tuple[Snapshot, ...]
    transformed: Transformed
    pushed: Version | None
    """The version in the bucket; None without object storage."""
    reports: tuple[Snapshot, ...] = ()
    """The WASDE reports that it reads."""

    @property
    def step_detail(self) -> str:
        return f"version {self.pushed.number}" if self.pushed else "no object storage"


@dataclass(frozen=True)
class Built:
    """A database file that is finished but not served."""

    path: Path
    facts: GenerationFacts


@dataclass(frozen=True)
class Published:
    """A generation that is served, and what its sync with object storage did."""

    generation: Generation
    step_detail: str


def landed(landing: Landing, lakehouse: Lakehouse) -> tuple[Snapshot, ...]:
    """The snapshots of the lakehouse's dataset, oldest release first, their rows ready to be read."""
    snapshots = landing.snapshots()
    ours = tuple(snapshot for snapshot in snapshots if snapshot.dataset == lakehouse.dataset)
    if others := {snapshot.dataset for snapshot in snapshots} - {lakehouse.dataset}:
        log.warning("ignoring snapshots of %s: this lakehouse serves %s", ", ".join(sorted(others)), lakehouse.dataset)
    if not ours:
        raise LandingError(f"no snapshot of {lakehouse.dataset} is landed; run `materia pipeline run extract`")
    landing.ready_rows(lakehouse.dataset)
    return ours


def reports(landing: Landing) -> tuple[Snapshot, ...]:
    """The landed WASDE reports, oldest first, their figures ready to be read."""
    found = landing.of(WASDE).snapshots()
    if found:
        landing.of(WASDE).ready_rows(WASDE.prefix)
    return found


def lakehouse_pulled(lakehouse_sync: LakehouseSync | None) -> Version | None:
    """The lakehouse's newest version, downloaded from the bucket unless the local file comes from it."""
    return lakehouse_sync.pull() if lakehouse_sync else None


def transformed(
    landed: tuple[Snapshot, ...], reports: tuple[Snapshot, ...], lakehouse_pulled: Version | None, lakehouse: Lakehouse
) -> Transformed:
    """The lakehouse brought up to date and audited by SQLMesh, in a child process."""
    return transform.run(lakehouse, landed)


def lakehouse_pushed(
    landed: tuple[Snapshot, ...],
    reports: tuple[Snapshot, ...],
    transformed: Transformed,
    lakehouse_sync: LakehouseSync | None,
    code_version: str,
    created_at: datetime,
) -> ReadyLakehouse:
    """The finished lakehouse, uploaded to the bucket. Raises LostRaceError if another host pushed one meanwhile."""
    pushed = lakehouse_sync.push(f"{socket.gethostname()} ({code_version})", created_at) if lakehouse_sync else None
    return ReadyLakehouse(landed, transformed, pushed, reports)


def built(
    lakehouse_pushed: ReadyLakehouse,
    lakehouse: Lakehouse,
    landing: Landing,
    serving: ServingStore,
    gate: Gate,
    code_version: str,
    created_at: datetime,
) -> Built:
    """The serving tables in a file of their own, with the as-of macros and `serving.generation`."""
    import duckdb

    landed = lakehouse_pushed.landed
    number = serving.next_number()
    path = serving.building_path(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = build_generation(
        lakehouse.store,
        path,
        landing.local_root if lakehouse_pushed.reports else None,
        lambda connection: GenerationFacts(
            number=number,
            created_at=created_at,
            code_version=code_version,
            duckdb_version=duckdb.__version__,
            models_digest=models_digest(),
            snapshots=tuple(snapshot.key for snapshot in landed),
            newest_released_on=landed[-1].released_on,
            newest_release_month=str(landed[-1].month),
            releases_digest=releases_digest((*landed, *lakehouse_pushed.reports)),
            row_counts=row_counts(connection),
            forced_reason=gate.forced_reason,
            wasde_check=wasde_check(connection),
        ),
    )
    return Built(path=path, facts=facts)


def verified(built: Built) -> Verification:
    """What a fresh process found when it read every row of the built file."""
    return verify_in_fresh_process(built.path, built.facts.row_counts, _VERIFY_TIMEOUT_S)


def gate_faults(built: Built, serving: ServingStore, gate: Gate) -> tuple[str, ...]:
    """Every way in which the built file is worse than the served generation; one is enough to refuse it."""
    served = serving.served()
    if served is None:
        return ()
    if is_redated(serving.served_path(), built.path):
        log.info("releases have other days than in the served generation: rows are not compared with it")
        return faults_against(served, built.facts, max_row_loss=1.0)
    return faults_against(served, built.facts, gate.max_row_loss)


def generation(
    built: Built, verified: Verification, gate_faults: tuple[str, ...], serving: ServingStore, gate: Gate
) -> Generation:
    """The generation, published; older ones beyond the kept number are removed. Raises GateError for faults."""
    if gate_faults and gate.forced_reason is None:
        built.path.unlink()
        served = serving.served()
        raise GateError(
            f"generation {built.facts.number} was refused, "
            f"generation {served.number if served else 'none'} stays served: "
            f"{'; '.join(gate_faults)}. If that is right, run again with --force 'why'"
        )
    published = serving.publish(built.path, built.facts)
    serving.prune(GENERATIONS_KEPT)
    return published


def generations_synced(
    generation: Generation, serving: ServingStore, generation_sync: RemoteGenerations | None, gate: Gate
) -> Published:
    """The published generation, uploaded for other hosts unless the bucket holds a newer one."""
    if generation_sync is None:
        return Published(generation, "no object storage")
    return Published(generation, sync_generations(generation_sync, serving, gate.max_row_loss))


def iceberg_published(
    generations_synced: Published,
    serving: ServingStore,
    iceberg: CatalogAddress | None,
    dataset: str,
    created_at: datetime,
) -> Outcome | None:
    """The served generation's tables in the Iceberg catalog, each in one atomic commit."""
    if iceberg is None:
        return None
    served = generations_synced.generation
    known = frozenset(each.sha256 for each in serving.generations())
    return publish(Publication(iceberg, served, dataset, known, created_at), serving.path(served.number))

"""The export dataflow: from landed snapshots to a served generation.

    landed → transformed → audited → built → verified → gated → generation

Whatever fails, the old generation stays served.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dataflows.errors import GateError, LandingError
from dataflows.lakehouse import transform
from dataflows.lakehouse.transform import Lakehouse, Transformed, models_digest
from dataflows.landing.local import Landing
from dataflows.landing.snapshot import Snapshot, releases_digest
from dataflows.serving.build import build_generation, row_counts
from dataflows.serving.gate import Gate, faults_against, is_redated
from dataflows.serving.generation import Generation, GenerationFacts
from dataflows.serving.store import ServingStore
from dataflows.serving.verify import verify_in_fresh_process

log = logging.getLogger(__name__)

GENERATIONS_KEPT = 5

_VERIFY_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Built:
    """A database file that is finished but not served."""

    path: Path
    facts: GenerationFacts


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


def transformed(landed: tuple[Snapshot, ...], lakehouse: Lakehouse) -> Transformed:
    """The lakehouse brought up to date by SQLMesh, in a process of its own."""
    return transform.run("transform", lakehouse, landed)


def audited(transformed: Transformed, landed: tuple[Snapshot, ...], lakehouse: Lakehouse) -> Transformed:
    """The same lakehouse after every audit passed: those that ran with the transform, or all of them now."""
    return transformed if transformed.audited else transform.run("audit", lakehouse, landed)


def built(
    audited: Transformed,
    landed: tuple[Snapshot, ...],
    lakehouse: Lakehouse,
    serving: ServingStore,
    gate: Gate,
    code_version: str,
    created_at: datetime,
) -> Built:
    """The serving tables in a file of their own, with the as-of macros and `serving.generation`."""
    import duckdb

    number = serving.next_number()
    path = serving.building_path(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = build_generation(
        lakehouse.store,
        path,
        lambda connection: GenerationFacts(
            number=number,
            created_at=created_at,
            code_version=code_version,
            duckdb_version=duckdb.__version__,
            models_digest=models_digest(),
            snapshots=tuple(snapshot.key for snapshot in landed),
            newest_released_on=landed[-1].released_on,
            newest_release_month=str(landed[-1].month),
            releases_digest=releases_digest(landed),
            row_counts=row_counts(connection),
            forced_reason=gate.forced_reason,
        ),
    )
    return Built(path=path, facts=facts)


def verified(built: Built) -> Built:
    """The same file after another process, with nothing cached, read every row of it."""
    verify_in_fresh_process(built.path, built.facts.row_counts, _VERIFY_TIMEOUT_S)
    return built


def gated(verified: Built, serving: ServingStore, gate: Gate) -> Built:
    """The same file, found no worse than the served one. Raises GateError naming every reason."""
    served = serving.served()
    if served is None:
        return verified
    if is_redated(serving.served_path(), verified.path):
        log.info("releases have other days than in the served generation: rows are not compared with it")
        faults = faults_against(served, verified.facts, max_row_loss=1.0)
    else:
        faults = faults_against(served, verified.facts, gate.max_row_loss)
    if faults and gate.forced_reason is None:
        verified.path.unlink()
        raise GateError(
            f"generation {verified.facts.number} was refused, generation {served.number} stays served: "
            f"{'; '.join(faults)}. If that is right, run again with --force 'why'"
        )
    return verified


def generation(gated: Built, serving: ServingStore) -> Generation:
    """The generation, published; older ones beyond the kept number are removed."""
    published = serving.publish(gated.path, gated.facts)
    serving.prune(GENERATIONS_KEPT)
    return published

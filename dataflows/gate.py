"""What a new generation is held against: is there need of one, and is it no worse than the one that is served?"""

from dataclasses import dataclass

from dataflows.serving.generation import Generation, GenerationFacts
from dataflows.serving.store import ServingStore
from dataflows.snapshot import Snapshot
from dataflows.transform import models_digest


@dataclass(frozen=True)
class Gate:
    """How much worse than the served generation a new one may be."""

    max_row_loss: float
    """Share of a table's rows that may be missing, 0 to 1."""
    forced_reason: str | None = None
    """Why somebody lets a generation through that the gate would refuse; recorded in the generation."""


def faults_against(served: Generation, facts: GenerationFacts, max_row_loss: float) -> tuple[str, ...]:
    """In what a new generation is worse than the served one, for a person; nothing when it isn't."""
    faults = []
    if served.newest_released_on and (
        facts.newest_released_on is None or facts.newest_released_on < served.newest_released_on
    ):
        faults.append(
            f"its newest release is of {facts.newest_released_on}, the served one's of {served.newest_released_on}"
        )
    for table, before in sorted(served.row_counts.items()):
        now = facts.row_counts.get(table, 0)
        if now < before * (1 - max_row_loss):
            faults.append(
                f"{table} has {now:,} rows, {before:,} are served (at most {max_row_loss:.0%} may be missing)"
            )
    return tuple(faults)


def is_current(serving: ServingStore, snapshots: tuple[Snapshot, ...], dataset: str) -> bool:
    """Whether a generation of just these snapshots, made by just this code, was published already.

    Looks at markers and sidecars only: nothing heavy is imported to find that there is nothing to do. It asks the
    newest generation, not the served one, so that a rollback holds until there is something new.
    """
    generations = serving.generations()
    keys = tuple(snapshot.key for snapshot in snapshots if snapshot.dataset == dataset)
    return bool(
        generations
        and serving.served() is not None
        and serving.unserved() is None
        and generations[-1].snapshots == keys
        and generations[-1].models_digest == models_digest()
    )

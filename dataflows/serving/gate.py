"""Checks before a publish: is a new generation needed, and is it no worse than the served one?"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dataflows.lakehouse.transform import models_digest
from dataflows.landing.snapshot import Snapshot, releases_digest
from dataflows.serving.generation import Generation, GenerationFacts
from dataflows.serving.store import ServingStore
from dataflows.source.formats import WASDE
from dataflows.sql_text import literal

_NOT_COMPARED = ("agg_wasde_check", "fct_uncertain_span")
"""WASDE's comparison is empty until the month's report is landed; a late release closes gaps between releases."""


@dataclass(frozen=True)
class Gate:
    """How much worse than the served generation a new one may be."""

    max_row_loss: float
    """Share of a table's rows that may be missing, 0 to 1."""
    forced_reason: str | None = None
    """The operator's reason for overriding the gate; recorded in the generation."""


def faults_against(served: Generation, facts: GenerationFacts, max_row_loss: float) -> tuple[str, ...]:
    """Return every way in which a new generation is worse than the served one; empty when none."""
    faults = []
    if _is_older(facts, served):
        faults.append(f"its newest release is {_newest(facts)}, the served one's {_newest(served)}")
    for table, before in sorted(served.row_counts.items()):
        now = facts.row_counts.get(table, 0)
        if table in _NOT_COMPARED:
            continue
        if _is_computed(table) and facts.models_digest == served.models_digest:
            if now == 0 < before:
                faults.append(f"{table} is empty, {before:,} rows are served")
        elif now < before * (1 - max_row_loss):
            faults.append(
                f"{table} has {now:,} rows, {before:,} are served (at most {max_row_loss:.0%} may be missing)"
            )
    return tuple(faults)


def _is_computed(table: str) -> bool:
    """Whether a table has sums or ratios: the same models give them from facts that are compared themselves.

    One balance sheet that USDA drops can take many of their rows. After an edit of the models they are compared, too.
    """
    return table.startswith("agg_") or table == "fct_metric"


def _is_older(facts: GenerationFacts, served: Generation) -> bool:
    """Whether a new generation's newest release is older than the served one's, by month, then by day."""
    if facts.newest_release_month and served.newest_release_month:
        new = (facts.newest_release_month, facts.newest_released_on or date.min)
        return new < (served.newest_release_month, served.newest_released_on or date.min)
    # Where no month was recorded, the day may be a server's and not USDA's; what was served must still be in it.
    loses_releases = not set(served.snapshots) <= set(facts.snapshots)
    is_earlier = (facts.newest_released_on or date.min) < (served.newest_released_on or date.min)
    return is_earlier and (loses_releases or facts.newest_released_on is None)


def _newest(facts: GenerationFacts) -> str:
    return f"{facts.newest_release_month or 'a release'} of {facts.newest_released_on}"


def is_redated(served: Path, built: Path) -> bool:
    """Whether a release in both files has another day in the new one, so that its rows must differ.

    That happens once, when markers that trusted a server's dates are upgraded.
    """
    import duckdb

    with duckdb.connect() as connection:
        for name, path in (("served", served), ("built", built)):
            connection.execute(f"ATTACH {literal(path)} AS {name} (READ_ONLY)")
        try:
            return bool(
                connection.execute(
                    "SELECT 1 FROM served.serving.dim_release AS old JOIN built.serving.dim_release AS new"
                    " USING (snapshot_key) WHERE old.released_on <> new.released_on LIMIT 1"
                ).fetchall()
            )
        except (duckdb.CatalogException, duckdb.BinderException):  # a file of other code
            return False


def is_current(serving: ServingStore, snapshots: tuple[Snapshot, ...], dataset: str) -> bool:
    """Whether a generation of these snapshots, WASDE reports among them, and this code is already published.

    Looks at markers and sidecars only: nothing heavy is imported to find that there is nothing to do. It asks the
    newest generation, not the served one, so that a rollback holds until there is something new.
    """
    generations = serving.generations()
    ours = [snapshot for snapshot in snapshots if snapshot.dataset == dataset]
    reports = [snapshot for snapshot in snapshots if snapshot.dataset == WASDE.prefix]
    keys = tuple(snapshot.key for snapshot in ours)
    return bool(
        generations
        and serving.served() is not None
        and serving.unserved() is None
        and generations[-1].snapshots == keys
        and generations[-1].releases_digest in (None, releases_digest((*ours, *reports)))
        and generations[-1].models_digest == models_digest()
    )

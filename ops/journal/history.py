"""The history of runs for the operator: unrepaired failures first, then the newest."""

from dataclasses import dataclass

from ops.journal.journal import Journal
from ops.journal.run import Run, RunStatus, Step

HISTORY_LIMIT = 1_000

_BROKEN = frozenset({RunStatus.FAILED, RunStatus.DIED})


@dataclass(frozen=True)
class History:
    """The newest runs, and those that failed without a later success of the same pipeline."""

    runs: tuple[Run, ...]
    """Unrepaired ones first, then newest first."""
    unrepaired: frozenset[int]


@dataclass(frozen=True)
class RunStory:
    """A run with its steps and its child runs, each in the order of their start."""

    run: Run
    steps: tuple[Step, ...]
    inside: tuple["RunStory", ...]


def take_history(
    journal: Journal,
    *,
    pipeline: str | None = None,
    status: RunStatus | None = None,
    limit: int = HISTORY_LIMIT,
) -> History:
    """Return at most `limit` of the newest runs; without `pipeline`, only those that have no parent."""
    found = journal.runs(limit, pipeline=pipeline, status=status)
    shown = [run for run in found if pipeline is not None or run.parent_id is None]
    succeeded = {name: run.id for name, run in journal.last_success_by_pipeline().items()}
    unrepaired = frozenset(run.id for run in shown if run.status in _BROKEN and run.id > succeeded.get(run.pipeline, 0))
    return History(tuple(sorted(shown, key=lambda run: (run.id not in unrepaired, -run.id))), unrepaired)


def take_story(journal: Journal, run_id: int) -> RunStory | None:
    """Return a run with its steps and children; None if there is no such run."""
    run = journal.run(run_id)
    if run is None:
        return None
    inside = tuple(RunStory(child, journal.steps(child.id), ()) for child in journal.children(run_id))
    return RunStory(run, journal.steps(run_id), inside)

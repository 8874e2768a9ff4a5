"""The last runs of each pipeline. Reads the journal only and imports nothing else: the console draws it first."""

from dataclasses import dataclass

from ops.journal.journal import Journal
from ops.journal.run import Run

PIPELINES = ("run-all", "extract", "transform", "export_serving")


@dataclass(frozen=True)
class PipelineState:
    """A pipeline's last run and last success; None if there is none."""

    pipeline: str
    last: Run | None
    last_success: Run | None


def pipeline_states(journal: Journal) -> tuple[PipelineState, ...]:
    """The pipelines of the main job first, then all others that have run. Raises JournalError."""
    last, succeeded = journal.last_by_pipeline(), journal.last_success_by_pipeline()
    names = (*PIPELINES, *sorted(last.keys() - set(PIPELINES)))
    return tuple(PipelineState(name, last.get(name), succeeded.get(name)) for name in names)

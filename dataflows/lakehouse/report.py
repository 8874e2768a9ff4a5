"""Explain SQLMesh failures to an operator: which model, which audit, which rows.

SQLMesh's exception is only "Plan application failed"; the details go to its console. Only the child process
imports this module.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlmesh.core.console import MarkdownConsole, set_console
from sqlmesh.core.snapshot import SnapshotIdBatch
from sqlmesh.core.snapshot.execution_tracker import QueryExecutionStats
from sqlmesh.utils.concurrency import NodeExecutionFailedError
from sqlmesh.utils.errors import NodeAuditsErrors

from dataflows.lakehouse.transform import WARNING_MARK

if TYPE_CHECKING:
    from sqlmesh import Context, EngineAdapter, Snapshot

_ROWS_SHOWN = 3
_LINES_A_CAUSE = 12
_CAUSES = 5


@dataclass(frozen=True)
class FailedAudit:
    """An audit of a model that found rows."""

    model: str
    audit: str
    row_count: int
    query: Any

    def describe(self, context: "Context") -> str:
        """Return the finding with the first rows."""
        rows = context.engine_adapter.fetchdf(self.query.limit(_ROWS_SHOWN)).to_dict("records")
        shown = "".join(f"\n  {', '.join(f'{name}={value}' for name, value in row.items())}" for row in rows)
        return f"audit {self.audit} of {self.model} found {self.row_count} invalid rows:{shown}"


class AuditsFailedError(RuntimeError):
    """Blocking audits found rows; the message has every finding, in the order of the models' names."""

    def __init__(self, found: Iterable[FailedAudit], context: "Context") -> None:
        findings = (each.describe(context) for each in sorted(found, key=lambda each: (each.model, each.audit)))
        super().__init__("\n".join(findings))


class Console(MarkdownConsole):
    """SQLMesh's console for logs: long lines stay whole, failures are kept, warnings are marked, rows are counted."""

    def __init__(self) -> None:
        super().__init__(width=200)
        self.failed: list[NodeExecutionFailedError] = []
        self.counts_rows_in: EngineAdapter | None = None
        """Where a count of a table's rows costs nothing, as in DuckDB, which does not report what it inserted."""

    def update_snapshot_evaluation_progress(self, snapshot: "Snapshot", *args: Any, **kwargs: Any) -> None:
        """Report a model with the number of rows that its table has now."""
        if self.counts_rows_in is not None and snapshot.is_model and snapshot.model.kind.is_materialized:
            (count,) = self.counts_rows_in.fetchone(f"SELECT COUNT(*) FROM {snapshot.table_name()}") or (0,)
            batch = SnapshotIdBatch(snapshot_id=snapshot.snapshot_id, batch_id=0)
            kwargs["execution_stats"] = QueryExecutionStats(batch, int(count))
        super().update_snapshot_evaluation_progress(snapshot, *args, **kwargs)

    def log_failed_models(self, errors: list[NodeExecutionFailedError]) -> None:
        self.failed = [*self.failed, *errors]
        super().log_failed_models(errors)

    def start_cleanup(self, ignore_ttl: bool) -> bool:
        """Confirm the cleanup; SQLMesh would ask interactively."""
        return True

    def log_warning(self, short_message: str, long_message: str | None = None, **_: Any) -> None:
        warn(short_message)


def install_console() -> Console:
    """Create a console and register it with SQLMesh."""
    console = Console()
    set_console(console)
    return console


def warn(message: str) -> None:
    """Print a warning so that the parent logs it as one."""
    print(WARNING_MARK + " ".join(message.split()), flush=True)


def failed_audits(context: "Context", **when: Any) -> Iterator[FailedAudit]:
    """Run the audits of every model; yields the blocking ones that found rows, and warns of the others."""
    for snapshot in context.snapshots.values():
        for result in context.snapshot_evaluator.audit(snapshot=snapshot, snapshots=context.snapshots, **when):
            if not result.count:
                continue
            finding = FailedAudit(snapshot.node.name, result.audit.name, result.count, result.query)
            if result.blocking:
                yield finding
            else:
                warn(finding.describe(context))


def reason(error: Exception, failed: Iterable[NodeExecutionFailedError], context: "Context | None") -> str:
    """Explain a failure: the failed models with their audits' findings, else the chain of exceptions."""
    lines = [line for failure in failed for line in _describe_model_failure(failure, context)]
    return "\n".join(lines or _cause_chain(error))


def _describe_model_failure(failure: NodeExecutionFailedError, context: "Context | None") -> list[str]:
    name = str(getattr(failure.node, "snapshot_name", None) or getattr(failure.node, "name", failure.node))
    cause = failure.__cause__ or failure
    if isinstance(cause, NodeAuditsErrors) and context is not None:
        return [
            FailedAudit(each.model_name or name, each.audit_name, each.count, each.query).describe(context)
            for each in cause.errors
        ]
    return [f"model {name.replace(chr(34), '')}: {_brief(cause)}"]


def _cause_chain(error: BaseException | None) -> list[str]:
    causes: list[str] = []
    while error is not None and len(causes) < _CAUSES:
        causes.append(_brief(error))
        error = error.__cause__ or error.__context__
    return causes


def _brief(error: BaseException) -> str:
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: " + "\n  ".join(lines[:_LINES_A_CAUSE])

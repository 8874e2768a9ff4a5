"""The child process that owns the lakehouse while it runs: `python -m dataflows.lakehouse.child PARENT_PID`.

Landed snapshots and processed releases are compared first; only days that differ are computed. A release that
arrives late differs at two days, its own and its successor's. `dim_release` is written last, so work that was cut
short anywhere shows up as a difference at the next start.
"""

import ctypes
import gc
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dataflows.errors import LakehouseError, LakehouseLockedError, MateriaError
from dataflows.files import sync
from dataflows.lakehouse.ducklake import CATALOG
from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.lakehouse.spark_driver import create_landing_tables, driver, export_tables
from dataflows.lakehouse.spark_settings import parse_spark
from dataflows.lakehouse.stores import LakehouseFile
from dataflows.lakehouse.transform import PROJECT_DIR, REBUILD, RESULT_MARK, Transformed

if TYPE_CHECKING:
    from sqlmesh import Context
    from sqlmesh.core.context_diff import ContextDiff
    from sqlmesh.core.plan import Plan, PlanBuilder

_COMPARED = {
    "key": "snapshot_key",
    "previous_key": "previous_snapshot_key",
    "previous_released_on": "previous_released_on",
    "shown_from": "shown_from",
}
"""What must be the same of a landed release and, in `dim_release`, of the processed one."""

PRODUCTION = "prod"
"""SQLMesh's environment whose serving tables are published."""

_LINES = ("raw.psd_alldata", "staging.stg_psdalldata__fact")
"""The models that are views of every line of every landed snapshot."""


_MOVE_AWAY = "move the lakehouse file away; the next run rebuilds it from the landing"
_START_OVER = "start the lakehouse over as docs/explanation/scaling.md says; the next run rebuilds it from the landing"


@dataclass(frozen=True)
class Order:
    """The parent's request. The parent reads the landing's markers, the child only its rows."""

    dataset: str
    settings: dict[str, str]
    """Environment variables for SQLMesh's configuration only."""
    landed: list[tuple[str, int]] = field(default_factory=list)
    """Release days that are landed, oldest first, and how many rows each has."""
    keys: list[str] = field(default_factory=list)
    """Every landed snapshot, including those superseded on their day."""
    rows_a_batch: int = 0
    can_rebuild: bool = False
    """Whether a lakehouse that only this machine uses may be removed and built again."""
    file: str = ""
    """The path of the lakehouse file; empty for another gateway."""
    empties: bool = False
    """Whether every table and view that SQLMesh knows is dropped, with its state, and nothing else is done."""


def main() -> None:
    _die_with_parent(int(sys.argv[1]))
    # Planning builds millions of syntax tree nodes; garbage collection would take a tenth of the time.
    gc.disable()

    from dataflows.lakehouse import report as sqlmesh_report

    import_module("sqlmesh")
    written = sys.stdin.readline()
    failed = bool(written) and _run_order(Order(**json.loads(written)), sqlmesh_report)
    # The files are closed; a normal interpreter exit would take another second.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


def _run_order(order: Order, sqlmesh_report: ModuleType) -> bool:
    """Run an order and print the result; return True when it failed."""
    console, context = sqlmesh_report.install_console(), None
    os.environ.update(order.settings)
    spark = _spark()
    with ExitStack() as running:
        try:
            _refuse_locked(order)
            if spark:
                os.environ.update(running.enter_context(driver(spark)))
            context = _context()
            if context.engine_adapter.dialect == "duckdb":
                console.counts_rows_in = context.engine_adapter
            if spark:
                if not order.empties:
                    spark.forget_files()
                create_landing_tables(context, spark, Path(os.environ["MATERIA_DATA_DIR"]) / "landing", order.dataset)
            result: dict[str, Any] = {}
            if order.empties:
                context._destroy()
            elif order.can_rebuild and _is_long_work(context, order):
                result = {REBUILD: True}
            else:
                result = asdict(_transform(context, order))
                if spark:
                    export_tables(context, spark, PRODUCTION)
        except LakehouseLockedError as error:
            result = {"error": str(error), "is_locked": True}
        except sqlmesh_report.AuditsFailedError as error:
            result = {"error": str(error), "next_step": _MOVE_AWAY if order.file else _START_OVER}
        except MateriaError as error:
            result = {"error": str(error)}
        except Exception as error:
            traceback.print_exc()
            result = {"error": sqlmesh_report.reason(error, console.failed, context)}
        finally:
            if context is not None:
                context.close()
    print(RESULT_MARK + json.dumps(result), flush=True)
    return "error" in result


def _spark() -> SparkLakehouse | None:
    """Spark as the environment configures it, if that is the gateway."""
    given = {name: text for name, value in os.environ.items() if (text := value.strip())}
    return parse_spark(given, Path(given["MATERIA_DATA_DIR"])) if given.get("MATERIA_GATEWAY") == "spark" else None


def _refuse_locked(order: Order) -> None:
    """Raise LakehouseLockedError when another process has the lakehouse open: SQLMesh would miss its tables instead."""
    if not order.file or not Path(order.file).exists():
        return
    import duckdb

    try:
        with duckdb.connect() as connection:
            LakehouseFile(Path(order.file)).attach(connection, read_only=False)
    except LakehouseLockedError:
        raise
    except LakehouseError:
        return  # the next open reports any other fault


def _die_with_parent(parent_pid: int) -> None:
    """Let Linux end this process when its parent dies; on other systems the lock still excludes a second writer."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit("parent process has exited")


def _context() -> "Context":
    from sqlmesh import Context
    from sqlmesh.core.loader import SqlMeshLoader

    class LoaderWithoutTests(SqlMeshLoader):
        """A loader that skips the models' unit tests: parsing them takes a tenth of a transform, which runs none."""

        def load_model_tests(self, *_: Any, **__: Any) -> list[Any]:
            return []

    return Context(paths=[str(_project())], loader=LoaderWithoutTests)


def _project() -> Path:
    """The folder that SQLMesh loads: a copy of the models where they are installed in `site-packages`.

    SQLMesh takes functions of a file with this text in its path for a library's, and leaves out the variables that
    macros read.
    """
    if "site-packages" not in str(PROJECT_DIR):
        return PROJECT_DIR
    copy = Path(os.environ["SQLMESH_CACHE_DIR"], "project")
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=copy.parent) as folder:
            draft = Path(shutil.copytree(PROJECT_DIR, Path(folder, copy.name)))
            for path in (*draft.rglob("*"), draft):
                sync(path)
            try:
                draft.rename(copy)
            except OSError:
                if not copy.exists():  # else another run was faster
                    raise
            sync(copy.parent)
    return copy


def _is_long_work(context: "Context", order: Order) -> bool:
    """Whether deploying the models of this checkout would compute more rows in one plan than fit in memory."""
    processed_to = _processed_to(context, order.dataset)
    if processed_to is None or not _models_differ(context):
        return False
    plan = _plan(context, execution_time=_execution_time(processed_to))
    begins = [
        start
        for missing in plan.missing_intervals
        if _reads_lines(context, missing.snapshot_id.name)
        for start, _ in missing.intervals
    ]
    if not begins:
        return False
    first = datetime.fromtimestamp(min(begins) / 1000, UTC).date()
    return sum(rows for day, rows in _days(order) if first <= day <= processed_to) > order.rows_a_batch


def _reads_lines(context: "Context", name: str) -> bool:
    """Whether a model is computed per release from the landing's lines; other models are cheap to recompute."""
    snapshot = context.snapshots[name]
    lines = {context.get_model(each, raise_if_missing=True).fqn for each in _LINES}
    return snapshot.is_incremental_by_time_range and not lines.isdisjoint(snapshot.model.depends_on or ())


def _models_differ(context: "Context") -> bool:
    """Whether this checkout's models differ from the deployed ones; cheaper than a plan."""
    deployed = context.state_reader.get_environment(PRODUCTION)
    fingerprints = {snapshot.name: snapshot.fingerprint for snapshot in deployed.snapshots} if deployed else {}
    return {name: snapshot.fingerprint for name, snapshot in context.snapshots.items()} != fingerprints


def _days(order: Order) -> list[tuple[date, int]]:
    return [(date.fromisoformat(day), rows) for day, rows in order.landed]


def _transform(context: "Context", order: Order) -> Transformed:
    landed = _days(order)
    processed_to = _processed_to(context, order.dataset)
    # Read first: deploying an edited model may write `dim_release` again, with releases that nothing else holds yet.
    processed = _processed(context) if processed_to is not None else None
    if processed_to is not None:
        _refresh_raw_views(context, order, processed_to)
    planned_to = processed_to or _batches(landed, order.rows_a_batch)[0][1]
    changed = _apply(context, planned_to)
    initial_releases = 0 if processed_to else sum(1 for day, _ in landed if day <= planned_to)
    pending = _pending(context, _processed(context) if processed is None else processed)
    for first, last in _batches(pending, order.rows_a_batch):
        print(f"comparing releases {first} to {last}", flush=True)
        # Include the empty days between releases, so that SQLMesh has no gap to fill later.
        _apply(context, last, first=min(first, planned_to + timedelta(days=1)))
        planned_to = max(planned_to, last)
    if not changed and not pending:  # nothing was computed, and therefore nothing audited
        _audit(context, landed[-1][0])
    # Delete unreferenced versions of edited models and expired environments.
    _untracked(context.run_janitor)(ignore_ttl=True)
    return Transformed(releases_processed=initial_releases + len(pending), models_changed=changed)


def _apply(context: "Context", last: date, first: date | None = None) -> bool:
    """Deploy the models of this checkout; with `first`, recompute the days from `first` to `last`.

    True when anything was computed. Raises what SQLMesh raises when a model or a blocking audit fails.
    """
    plan = _plan(
        context,
        restate_models=["raw.*", "staging.*"] if first else None,
        start=first,
        end=last if first else None,
        execution_time=_execution_time(last),
    )
    context.apply(plan)
    if changed := _changed_models(plan.context_diff):
        print(f"production's models differed from this checkout's, deployed: {', '.join(changed)}", flush=True)
    return bool(plan.context_diff.has_changes or plan.requires_backfill)


def _plan(context: "Context", **options: Any) -> "Plan":
    builder: PlanBuilder = _untracked(context.plan_builder)(PRODUCTION, skip_tests=True, **options)
    return builder.build()


def _untracked(method: Any) -> Callable[..., Any]:
    """A method of SQLMesh's context without its telemetry, which imports IPython even when it is disabled."""
    return partial(method.__wrapped__, method.__self__)


def _changed_models(diff: "ContextDiff") -> list[str]:
    """The models in which production differs from this checkout; none when production is new."""
    if diff.is_new_environment:
        return []
    changed = {*diff.modified_snapshots, *(each.name for each in (*diff.added, *diff.removed_snapshots))}
    return sorted(name.replace('"', "").removeprefix(f"{CATALOG}.") for name in changed)


def _audit(context: "Context", last: date) -> None:
    """Run every audit on the tables as they are. Raises AuditsFailedError."""
    from dataflows.lakehouse.report import AuditsFailedError, failed_audits

    found = list(failed_audits(context, start=date(1990, 1, 1), end=last, execution_time=_execution_time(last)))
    if found:
        raise AuditsFailedError(found, context)


def _processed_to(context: "Context", dataset: str) -> date | None:
    """The newest release in the lakehouse; None if it is empty. Raises if it contains another dataset."""
    if not context.engine_adapter.table_exists("serving.dim_release"):
        return None
    held = context.engine_adapter.fetchall("SELECT dataset, MAX(released_on) FROM serving.dim_release GROUP BY 1")
    if others := [other for other, _ in held if other != dataset]:
        raise RuntimeError(
            f"this lakehouse holds {others[0]} and PSD_DATASET is {dataset}; "
            "give each dataset a data directory of its own (MATERIA_DATA_DIR)"
        )
    return _day(held[0][1]) if held else None


def _refresh_raw_views(context: "Context", order: Order, day: date) -> None:
    """Recreate the raw views, which contain the path of the landing, when the landing has moved; recompute one day."""
    import duckdb

    try:
        seen = {key for (key,) in context.engine_adapter.fetchall("SELECT key FROM raw.psd_snapshot")}
    except duckdb.IOException:  # the old path is gone
        seen = set()
    if seen != set(order.keys):
        print("the landing has moved: pointing the raw views to it", flush=True)
        _apply(context, day, first=day)


def _processed(context: "Context") -> dict[date, dict[str, Any]]:
    """What `dim_release` says of each release, by its day. Models of older code may lack some of it."""
    adapter = context.engine_adapter
    known = adapter.columns("serving.dim_release")
    names = [name for name, theirs in _COMPARED.items() if theirs in known]
    columns = ", ".join(_COMPARED[name] for name in names)
    rows = adapter.fetchall(f"SELECT released_on, {columns} FROM serving.dim_release")
    return {_day(day): dict(zip(names, values, strict=True)) for day, *values in rows}


def _pending(context: "Context", processed: dict[date, dict[str, Any]]) -> list[tuple[date, int]]:
    """The days whose release differs from what was processed, with the rows that will be read."""
    columns = ", ".join(_COMPARED)
    rows = context.engine_adapter.fetchall(
        f"SELECT released_on, row_count, {columns} FROM staging.stg_psdalldata__release"
    )
    landed = {_day(day): (count, dict(zip(_COMPARED, values, strict=True))) for day, count, *values in rows}
    return [
        (day, landed[day][0] if day in landed else 0)
        for day in sorted(landed.keys() | processed.keys())
        if day not in landed or day not in processed or not processed[day].items() <= landed[day][1].items()
    ]


def _batches(pending: list[tuple[date, int]], rows_a_batch: int) -> list[tuple[date, date]]:
    """Split days into ordered spans whose rows fit in memory."""
    spans: list[tuple[date, date]] = []
    rows_in_span = 0
    for day, rows in pending:
        if spans and rows_in_span + rows <= rows_a_batch:
            spans[-1] = (spans[-1][0], day)
            rows_in_span += rows
        else:
            spans.append((day, day))
            rows_in_span = rows
    return spans


def _execution_time(last: date) -> datetime:
    """The midnight after `last`: SQLMesh computes whole days only, and a release is wanted on its own day."""
    return datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)


def _day(value: date | datetime) -> date:
    return value.date() if isinstance(value, datetime) else value


if __name__ == "__main__":
    main()

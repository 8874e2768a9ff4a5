"""What is played on the stage: the command line, and parts of pipelines that can do without SQLMesh's five seconds.

Each takes the writer's lock and is recorded, as it is in its pipeline, and returns an exit code.
"""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from dataflows import export
from dataflows.errors import MateriaError, TransformError
from dataflows.lakehouse.transform import Transformed
from ops.cli import main
from ops.config.settings import Settings
from ops.journal import run
from ops.journal.journal import Journal
from ops.journal.recorder import record_run
from ops.pipelines import run as pipelines
from ops.pipelines.job import Job, Request, open_job

NOTHING_COMPUTED = Transformed(0, models_changed=False)


def materia(*arguments: str) -> int:
    """`materia` as it is typed."""
    return main(arguments)


def at(moment: str, name: str, *arguments: str) -> int:
    """Run another act with the machine's clock set to another time."""
    real, ahead = run.utc_now, datetime.fromisoformat(moment) - run.utc_now()
    for module in tuple(sys.modules.values()):
        if getattr(module, "utc_now", None) is real:
            module.utc_now = lambda: real() + ahead
    return globals()[name](*arguments)


def publish() -> int:
    """What export_serving does but for SQLMesh: nothing if it is served; else copy, verify, gate, publish, share."""

    def work(job: Job) -> None:
        if pipelines._is_current(job):
            return
        landed = export.landed(job.landing, pipelines._export_inputs(job)["lakehouse"])
        ready = export.ReadyLakehouse(landed, NOTHING_COMPUTED, pushed=None)
        pipelines._execute_export(job, ready)

    return _recorded("publish", work)


def sync_lakehouse() -> int:
    """What every transform does around SQLMesh: fetch the bucket's lakehouse, work on it, push it."""

    def work(job: Job) -> None:
        import duckdb

        inputs = pipelines._export_inputs(job)
        with job.recorder.step("lakehouse_pulled"):
            export.lakehouse_pulled(inputs["lakehouse_sync"])
        try:
            with duckdb.connect(str(job.settings.lakehouse_path)) as lakehouse:
                lakehouse.execute("CREATE SCHEMA IF NOT EXISTS work")
                lakehouse.execute("CREATE OR REPLACE TABLE work.done AS SELECT range AS n FROM range(1000)")
        except duckdb.Error as error:  # SQLMesh's process would tell it so
            raise TransformError(str(error)) from error
        with job.recorder.step("lakehouse_pushed"):
            export.lakehouse_pushed(
                (), (), NOTHING_COMPUTED, inputs["lakehouse_sync"], inputs["code_version"], inputs["created_at"]
            )

    return _recorded("transform", work)


def share() -> int:
    """What every export does before and after: the bucket's newest generation here, or ours there."""
    return _recorded(
        "share",
        pipelines.sync_generations,
    )


def remember(log_dir: str) -> int:
    """The journal alone: a run with a run in it, steps, and the oldest forgotten."""

    def work() -> None:
        with Journal(Settings.from_environ().journal_path) as journal:
            with record_run(journal, "outer", log_dir=Path(log_dir)) as outer, outer.child("inner") as inner:
                for step in "abc":
                    with inner.step(step):
                        pass
            journal.forget(3)

    return _told(work)


def _recorded(name: str, work: Callable[[Job], None]) -> int:
    def recorded() -> None:
        with open_job(name, Settings.from_environ(), Request(), ()) as opened:
            work(opened)

    return _told(recorded)


def _told(work: Callable[[], None]) -> int:
    """Run the work and report errors as the command line does."""
    try:
        work()
    except MateriaError as error:
        print(f"error: {error}")
        return error.exit_code
    except Exception as error:
        print(f"error: unexpected {type(error).__name__}: {error}")
        return 1
    return 0

"""The run journal: what ran, when, and with which outcome. Safe for concurrent processes and threads.

Reading and writing never block each other, and a journal that does not exist yet reads as empty. Readers see a run
whose process is gone as died; the next run to start records it as such. Every method raises JournalError if the file
cannot be read or written.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from dataflows.errors import JournalError
from ops.host.process import Process, this_process
from ops.journal.file import open_to_read, open_to_write, transaction, typed_errors
from ops.journal.run import DIED, RUN_COLUMNS, STEP_COLUMNS, Run, RunStatus, Step, utc_now

_Entry = TypeVar("_Entry", Run, Step)

_RUNS = 'SELECT "{}" FROM runs'.format('", "'.join(RUN_COLUMNS))
_STEPS = 'SELECT "{}" FROM steps'.format('", "'.join(STEP_COLUMNS))

NEWEST_OF_EACH = f"""
WITH RECURSIVE
pipelines (pipeline) AS (
    SELECT min(pipeline) FROM runs
    UNION ALL
    SELECT (SELECT min(runs.pipeline) FROM runs WHERE runs.pipeline > pipelines.pipeline)
    FROM pipelines WHERE pipelines.pipeline IS NOT NULL
),
statuses (status) AS (VALUES ('running'), ('done'), ('failed'), ('interrupted'), ('died'))
{_RUNS} WHERE id IN (
    SELECT (
        SELECT max(id) FROM runs WHERE runs.pipeline = pipelines.pipeline AND runs.status = statuses.status
    )
    FROM pipelines CROSS JOIN statuses
) ORDER BY id
"""
"""The newest run of each pipeline in each status: one index lookup each, regardless of the number of runs."""


class Journal:
    """The journal in the file `path`. The connection to write opens with the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the next write opens it again. May be called repeatedly."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    # Writing

    def set_worker(self, run_id: int, worker: str) -> None:
        """Record the worker of a run, once it is known."""
        with self._writing() as db:
            db.execute("UPDATE runs SET worker = ? WHERE id = ?", (worker, run_id))

    def begin(
        self,
        pipeline: str,
        *,
        trigger: str = "manual",
        arguments: Sequence[str] = (),
        parent_id: int | None = None,
        worker: str | None = None,
        code_version: str = "",
        log_dir: Path | None = None,
    ) -> Run:
        """Record the start of a run by this process, and mark runs whose processes are gone as died.

        With `log_dir`, the run's `log_path` is `run-<id>.log` there; no file is created.
        """
        process = this_process()
        with self._writing() as db:
            self._mark_dead_runs(db)
            row_id = db.execute(
                'INSERT INTO runs (parent_id, pipeline, status, "trigger", arguments, started_at, pid, '
                "process_started, host, worker, code_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    parent_id,
                    pipeline,
                    RunStatus.RUNNING,
                    trigger,
                    json.dumps(list(arguments)),
                    utc_now().isoformat(),
                    process.pid,
                    process.started,
                    os.uname().nodename,
                    worker,
                    code_version,
                ),
            ).lastrowid
            if log_dir is not None:
                db.execute("UPDATE runs SET log_path = ? WHERE id = ?", (str(log_dir / f"run-{row_id}.log"), row_id))
            return self._read(Run, db.execute(f"{_RUNS} WHERE id = ?", (row_id,)).fetchone())

    def finish(
        self,
        run_id: int,
        status: RunStatus,
        result: str | None = None,
        *,
        error: str | None = None,
        error_detail: str | None = None,
        snapshots: Sequence[str] = (),
    ) -> None:
        """Record the end of a run; its running steps and child runs get the same status.

        A child run is left running by a signal that arrives when it has just begun.
        """
        now = utc_now().isoformat()
        with self._writing() as db:
            db.execute(
                "UPDATE runs SET status = ?, ended_at = ?, result = ?, error = ?, error_detail = ?, "
                "snapshots = ? WHERE id = ?",
                (status, now, result, error, error_detail, json.dumps(list(snapshots)), run_id),
            )
            for table, parent in (("steps", "run_id"), ("runs", "parent_id")):
                db.execute(
                    f"UPDATE {table} SET status = ?, ended_at = ? WHERE {parent} = ? AND status = 'running'",
                    (status, now, run_id),
                )

    def begin_step(self, run_id: int, name: str, detail: str = "") -> Step:
        """Record the start of a step; names may repeat (a retry, a node of parallel tasks)."""
        with self._writing() as db:
            step_id = db.execute(
                "INSERT INTO steps (run_id, name, status, started_at, detail) VALUES (?, ?, ?, ?, ?)",
                (run_id, name, RunStatus.RUNNING, utc_now().isoformat(), detail),
            ).lastrowid
            return self._read(Step, db.execute(f"{_STEPS} WHERE id = ?", (step_id,)).fetchone())

    def finish_step(self, step_id: int, status: RunStatus, detail: str = "") -> None:
        """Record the end of a step."""
        with self._writing() as db:
            db.execute(
                "UPDATE steps SET status = ?, ended_at = ?, detail = ? WHERE id = ?",
                (status, utc_now().isoformat(), detail, step_id),
            )

    def forget(self, keep: int) -> int:
        """Delete all but the `keep` newest runs, with their steps, and return the number of deleted runs.

        The newest run of each pipeline in each status stays, because status and schedule need it.
        """
        kept = {run.id for run in self._runs(NEWEST_OF_EACH)}
        with self._writing() as db:
            bound = db.execute("SELECT id FROM runs ORDER BY id DESC LIMIT 1 OFFSET ?", (keep,)).fetchone()
            old = db.execute("SELECT id FROM runs WHERE id <= ?", bound or (0,)).fetchall()
            deleted = [(row_id,) for (row_id,) in old if row_id not in kept]
            db.executemany("DELETE FROM steps WHERE run_id = ?", deleted)
            db.executemany("UPDATE runs SET parent_id = NULL WHERE parent_id = ?", deleted)
            db.executemany("DELETE FROM runs WHERE id = ?", deleted)
            return len(deleted)

    # Reading

    def runs(self, limit: int = 20, *, pipeline: str | None = None, status: RunStatus | None = None) -> tuple[Run, ...]:
        """At most `limit` runs, newest first; with a pipeline or a status only those."""
        conditions: list[str] = []
        values: list[str] = []
        if pipeline is not None:
            conditions.append("pipeline = ?")
            values.append(pipeline)
        if status is not None:
            # A run stored as running may have died.
            stored = {status, RunStatus.RUNNING} if status is RunStatus.DIED else {status}
            conditions.append(f"status IN ({', '.join('?' * len(stored))})")
            values.extend(stored)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        seen = self._runs(f"{_RUNS} {where} ORDER BY id DESC", values)
        return tuple(islice((run for run in seen if status is None or run.status is status), limit))

    def run(self, run_id: int) -> Run | None:
        """The run with that id, or None."""
        return next(self._runs(f"{_RUNS} WHERE id = ?", (run_id,)), None)

    def children(self, run_id: int) -> tuple[Run, ...]:
        """The child runs of a run, in the order of their start."""
        return tuple(self._runs(f"{_RUNS} WHERE parent_id = ? ORDER BY id", (run_id,)))

    def steps(self, run_id: int) -> tuple[Step, ...]:
        """The steps of a run in the order of their start; if it died, its running steps as died."""
        run = self.run(run_id)
        rows = self._rows(f"{_STEPS} WHERE run_id = ? ORDER BY id", (run_id,))
        steps = tuple(self._read(Step, row) for row in rows)
        return tuple(step.with_status_of(run) for step in steps) if run else ()

    def last_by_pipeline(self) -> dict[str, Run]:
        """The newest run of every pipeline."""
        return {run.pipeline: run for run in self._runs(NEWEST_OF_EACH)}

    def last_success_by_pipeline(self) -> dict[str, Run]:
        """The newest successful run of every pipeline that has one."""
        return {run.pipeline: run for run in self._runs(NEWEST_OF_EACH) if run.status is RunStatus.DONE}

    def last_failure_by_pipeline(self) -> dict[str, Run]:
        """The newest failed or died run of every pipeline that has one."""
        broken = {RunStatus.FAILED, RunStatus.DIED}
        return {run.pipeline: run for run in self._runs(NEWEST_OF_EACH) if run.status in broken}

    def succeeded(self, pipeline: str, first_trigger: str, last_trigger: str) -> bool:
        """Whether a pipeline has a successful run whose trigger sorts between the first and the last, inclusive."""
        sql = "SELECT 1 FROM runs WHERE pipeline = ? AND status = 'done' AND \"trigger\" BETWEEN ? AND ? LIMIT 1"
        return any(self._rows(sql, (pipeline, first_trigger, last_trigger)))

    # Internals

    def _runs(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Run]:
        return (self._with_own_log(self._with_current_status(self._read(Run, row))) for row in self._rows(sql, values))

    def _with_current_status(self, run: Run) -> Run:
        if not run.is_orphan:
            return run
        # It may have ended after it was read here. Its process is gone, so its record is final now: read it again.
        final = next((self._read(Run, row) for row in self._rows(f"{_RUNS} WHERE id = ?", (run.id,))), run)
        return final.as_died() if final.status is RunStatus.RUNNING else final

    def _read(self, kind: type[_Entry], row: Sequence[Any] | None) -> _Entry:
        """Parse a row; raises JournalError if it is invalid, or missing although it was just written."""
        try:
            return kind.from_row(row or ())
        except (ValueError, TypeError, RecursionError) as error:
            which = f"row {row[0]}" if row else "newest row"
            raise JournalError(
                f"invalid {which} ({error}) in the run journal {self.path}; move the file away, a new one is created"
            ) from error

    def _with_own_log(self, run: Run) -> Run:
        """Return the run with the log beside this journal, which may be a copy of the one that recorded the path."""
        folder, _, name = (run.log_path or "").rpartition(os.sep)
        beside = self.path.with_name("logs")
        if folder == str(beside) or not folder.endswith(f"{os.sep}logs"):
            return run
        return replace(run, log_path=str(beside / name))

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        with typed_errors(self.path), open_to_read(self.path) as db:
            if db is not None:
                yield from db.execute(sql, values)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, typed_errors(self.path):
            if self._writer is None:
                self._writer = open_to_write(self.path)
            with transaction(self._writer):
                yield self._writer

    @staticmethod
    def _mark_dead_runs(db: sqlite3.Connection) -> None:
        running = db.execute("SELECT id, pid, process_started FROM runs WHERE status = 'running'").fetchall()
        for run_id, pid, started in running:
            if not Process(pid, started).is_alive():
                db.execute("UPDATE runs SET status = 'died', error = ? WHERE id = ?", (DIED, run_id))
                db.execute("UPDATE steps SET status = 'died' WHERE run_id = ? AND status = 'running'", (run_id,))

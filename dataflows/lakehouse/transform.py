"""Run the SQLMesh project in a child process: its import is slow, and its exit releases the lakehouse's lock."""

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dataflows.errors import LakehouseLockedError, TransformError
from dataflows.files import after_refusal
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.lakehouse.stores import LakehouseFile, LakehouseStore, lock_conflict
from dataflows.landing.snapshot import Snapshot

log = logging.getLogger(__name__)

PROJECT_DIR = Path(__file__).resolve().parents[2] / "transform" / "sqlmesh_materia"
"""The SQLMesh project: models, audits, tests, macros and its configuration."""


@dataclass(frozen=True)
class Lakehouse:
    """The lakehouse and the settings of its child process."""

    path: Path
    """The file, where it is one."""
    dataset: str
    environ: Mapping[str, str] = field(repr=False)
    """The child's environment; the SQLMesh configuration reads its settings from it."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secret settings, sent over standard input so that no process list shows them."""
    inherited_fds: tuple[int, ...] = ()
    """File handles that the child inherits, so that the writer lock is held as long as the child lives."""
    waiting: subprocess.Popen[str] | None = field(default=None, repr=False, compare=False)
    """A child that `warm_up` started, used by the first run."""
    lake: DuckLake | SparkLakehouse | None = None
    """What replaces the file, when configured."""

    @property
    def store(self) -> LakehouseStore:
        """The store of the tables."""
        return self.lake or LakehouseFile(self.path)


@dataclass(frozen=True)
class Transformed:
    """What a transform did to the lakehouse, whose current tables passed every blocking audit."""

    releases_processed: int
    """Releases that were compared again: the pending ones and the successors of late arrivals."""
    models_changed: bool

    @property
    def step_detail(self) -> str:
        releases = f"{self.releases_processed} release{'' if self.releases_processed == 1 else 's'} compared"
        if self.releases_processed:
            return releases
        return "models deployed" if self.models_changed else "up to date, audits passed"


ROWS_A_BATCH = 12_000_000
"""Rows read in one plan. A long history is walked in batches, so memory does not grow with its length."""

_BUILT_BY = ("asof.py", "asof_groups.py", "build.py", "units.py")
_BUILDERS = tuple(Path(__file__).parents[1] / "serving" / name for name in _BUILT_BY)


def models_digest(project_dir: Path = PROJECT_DIR) -> str:
    """Return a digest of the code that determines the content of a generation; another digest means out of date."""
    digest = hashlib.sha256()
    models = [path for path in project_dir.rglob("*") if path.suffix in (".sql", ".py", ".csv")]
    for path in sorted(models):
        name = path.relative_to(project_dir)
        if not {".cache", "logs", "tests"} & set(name.parts):
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    for path in _BUILDERS:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def run(lakehouse: Lakehouse, snapshots: Sequence[Snapshot], rows_a_batch: int = ROWS_A_BATCH) -> Transformed:
    """Run SQLMesh over the landed snapshots of one dataset; raises TransformError with SQLMesh's message.

    Every line that SQLMesh prints is logged. The child is killed when this process ends.
    """
    rows_of_day = {snapshot.released_on: snapshot.row_count for snapshot in snapshots}
    order = {
        "landed": [(day.isoformat(), rows) for day, rows in sorted(rows_of_day.items())],
        "keys": [snapshot.key for snapshot in snapshots],
        "rows_a_batch": rows_a_batch,
        "can_rebuild": lakehouse.lake is None,
    }
    _forget_missing_lakehouse(lakehouse)
    answer = _ask_child(lakehouse, order)
    if REBUILD in answer:
        _remove(lakehouse)
        _forget_missing_lakehouse(lakehouse)
        answer = _ask_child(lakehouse, order)
    return Transformed(**answer)


def empty(lakehouse: Lakehouse) -> None:
    """Drop every table of SQLMesh and its state of them; the next transform builds them from the landing."""
    _ask_child(lakehouse, {"empties": True})


def _ask_child(lakehouse: Lakehouse, order: Mapping[str, Any]) -> dict[str, Any]:
    """Send an order to the child and return its answer. Raises LakehouseLockedError or TransformError."""
    file = str(lakehouse.path) if lakehouse.lake is None else ""
    whole = {"dataset": lakehouse.dataset, "settings": dict(lakehouse.secrets), "file": file, **order}
    process = lakehouse.waiting if lakehouse.waiting and lakehouse.waiting.poll() is None else _start(lakehouse)
    with process:
        assert process.stdin and process.stdout
        try:
            with suppress(BrokenPipeError):  # the child has exited; its exit code is reported below
                process.stdin.write(json.dumps(whole) + "\n")
                process.stdin.close()
            result, lines = _follow(process.stdout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0 or result is None:
        error = (result or {}).get("error", "")
        if locked := error if (result or {}).get("is_locked") else lock_conflict(error):
            raise LakehouseLockedError(locked)
        raise TransformError(_explain_failure(process.returncode, result, lines))
    return result


def _remove(lakehouse: Lakehouse) -> None:
    """Delete the lakehouse file, so that the next transform rebuilds it from the landing."""
    log.info("models have changed and the history is long: rebuilding the lakehouse in batches")
    for path in (lakehouse.path, lakehouse.path.with_name(f"{lakehouse.path.name}.wal")):
        path.unlink(missing_ok=True)


def _forget_missing_lakehouse(lakehouse: Lakehouse) -> None:
    """Delete SQLMesh's state of a missing lakehouse: it refers to tables that no longer exist."""
    lake = lakehouse.lake
    names, state_path = (lake.names, lake.state) if lake else (lakehouse.path, LakehouseFile(lakehouse.path).state_path)
    if isinstance(names, Path) and isinstance(state_path, Path) and not names.exists():
        for suffix in ("", ".wal"):
            state_path.with_name(state_path.name + suffix).unlink(missing_ok=True)


@contextmanager
def warm_up(lakehouse: Lakehouse) -> Iterator[Lakehouse]:
    """Yield the lakehouse with a child that imports SQLMesh in advance; the first run uses it.

    The child opens nothing before it gets an order. A child without an order is killed.
    """
    child = _start(lakehouse)
    assert child.stdin and child.stdout
    try:
        yield replace(lakehouse, waiting=child)
    finally:
        with suppress(BrokenPipeError):
            child.stdin.close()
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        child.stdout.close()


def _start(lakehouse: Lakehouse) -> subprocess.Popen[str]:
    # Spill files of a killed transform.
    shutil.rmtree(lakehouse.path.with_name(f"{lakehouse.path.name}.tmp"), ignore_errors=True)
    return subprocess.Popen(
        [sys.executable, "-m", "dataflows.lakehouse.child", str(os.getpid())],
        cwd=PROJECT_DIR.parents[1],
        # With two dozen models, SQLMesh's pool of loaders costs more than it saves.
        env={
            **lakehouse.environ,
            "PYTHONUNBUFFERED": "1",
            # Deprecation warnings of SQLMesh's own code do not belong in a run's log.
            "PYTHONWARNINGS": "ignore",
            "MAX_FORK_WORKERS": "1",
            # HOME by default, where SQLMesh writes an id even without analytics, and which may not be writable.
            "SQLMESH_HOME": str(lakehouse.path.with_name("sqlmesh-home")),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=lakehouse.inherited_fds,
        start_new_session=True,
    )


def _follow(output: Iterable[str]) -> tuple[dict[str, Any] | None, list[str]]:
    """Log lines as they arrive; return the child's result and its last lines."""
    result: dict[str, Any] | None = None
    lines: list[str] = []
    for line in output:
        if line.startswith(RESULT_MARK):
            result = json.loads(line.removeprefix(RESULT_MARK))
        elif line.startswith(WARNING_MARK):
            log.warning(line.removeprefix(WARNING_MARK).rstrip())
        elif text := line.rstrip():
            log.info(text)
            lines = [*lines[-40:], text]
    return result, lines


RESULT_MARK = "materia-result "
"""Prefix of the child's result line."""

REBUILD = "rebuild"
"""The child's result when one plan would exceed memory; nothing was changed."""

WARNING_MARK = "materia-warning "
"""Prefix of the child's lines that are logged as warnings."""


def _explain_failure(returncode: int, result: dict[str, Any] | None, lines: list[str]) -> str:
    tail = "\n  ".join((result or {}).get("error", "").splitlines() or lines[-15:])
    next_step = (result or {}).get("next_step") or after_refusal(tail)
    how = f"was killed by {signal.Signals(-returncode).name}" if returncode < 0 else "failed"
    return (
        f"SQLMesh's transform {how}; the served generation is untouched.\n  {tail}\n"
        f"The run's log has the details; {next_step or 'the next run continues'}"
    )

"""Builds data directories with a fixed history, so that screens are reproducible."""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from dataflows.serving.generation import Generation, sidecar_of
from ops.config.settings import Settings
from ops.journal.file import open_to_write
from ops.pipelines.dag import dag_of
from ops.workers.view import WorkerRow
from tests.support.small_database import small_database
from tui.shell.app import ConsoleApp
from tui.shell.config import TuiConfig
from tui.shell.context import ConsoleContext, create_context

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SERVED_BYTES = 43_123_456
EXTRACT_NODES = ("candidates", "probes", "newest_posted", "landed_already", "download", "contents", "snapshot")
EXPORT_NODES = tuple(node.name for node in dag_of("export", "generations_synced").nodes)
WORKER = WorkerRow(
    id="materia-7",
    provider="hetzner",
    type="ccx13",
    location="fsn1",
    state="running",
    created_at=NOW - timedelta(hours=3),
    eur_per_h=0.0205,
    eur_so_far=0.0615,
    expires_at=NOW + timedelta(hours=1),
    run_id=12,
)


class Past:
    """Writes runs into a journal as if they had happened."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._db = open_to_write(settings.journal_path)

    def close(self) -> None:
        self._db.close()

    def run(
        self,
        pipeline: str,
        status: str,
        began: timedelta,
        took_s: float,
        *,
        steps: Mapping[str, float] | None = None,
        broken_step: str | None = None,
        parent_id: int | None = None,
        result: str | None = None,
        error: str | None = None,
        error_detail: str | None = None,
        trigger: str = "timer",
        log: str | None = None,
    ) -> int:
        """Record a run that started `began` before NOW, with sequential steps."""
        started = NOW - began
        row_id = self._db.execute(
            'INSERT INTO runs (parent_id, pipeline, status, "trigger", arguments, started_at, ended_at, pid,'
            " process_started, host, code_version, snapshots, result, error, error_detail)"
            " VALUES (?, ?, ?, ?, '[]', ?, ?, 4711, 'gone', 'harvest', 'a58deee51a47', ?, ?, ?, ?)",
            (
                parent_id,
                pipeline,
                status,
                trigger,
                started.isoformat(),
                (started + timedelta(seconds=took_s)).isoformat(),
                json.dumps(["0x8DE1"] if status == "done" else []),
                result,
                error,
                error_detail,
            ),
        ).lastrowid
        assert row_id is not None
        if log is not None:
            path = self._settings.log_dir / f"run-{row_id}.log"
            path.parent.mkdir(exist_ok=True)
            path.write_text(log)
            self._db.execute("UPDATE runs SET log_path = ? WHERE id = ?", (str(path), row_id))
        moment = started
        for name, step_s in (steps or {}).items():
            ended = moment + timedelta(seconds=step_s)
            self._db.execute(
                "INSERT INTO steps (run_id, name, status, started_at, ended_at, detail) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    row_id,
                    name,
                    "failed" if name == broken_step else "done",
                    moment.isoformat(),
                    ended.isoformat(),
                    error or "" if name == broken_step else "",
                ),
            )
            moment = ended
        return row_id


def settings_in(folder: Path) -> Settings:
    return Settings.from_environ({"MATERIA_DATA_DIR": str(folder)})


def context_in(folder: Path, *, read_only: bool = False) -> ConsoleContext:
    context = create_context(settings_in(folder), read_only=read_only)
    return ConsoleContext(context.settings, read_only, context.reader, clock=lambda: NOW)


def console_on(
    folder: Path, *, first: str = "overview", read_only: bool = False, keys: Mapping[str, str] | None = None
) -> ConsoleApp:
    return ConsoleApp(context_in(folder, read_only=read_only), TuiConfig(keys or {}), first=first)


def serve_at(settings: Settings, number: int, released_on: date, age: timedelta) -> None:
    """Write what a publish writes, except the data."""
    target = settings.serving_path.with_name(f"serving-{number}.duckdb")
    target.write_bytes(small_database())
    os.truncate(target, SERVED_BYTES)
    generation = Generation(
        number=number,
        created_at=NOW - age,
        code_version="a58deee51a47",
        duckdb_version="1.5.5",
        models_digest="0" * 64,
        snapshots=("0x8DE0", "0x8DE1"),
        newest_released_on=released_on,
        row_counts={"fct_psd": 2_171_402},
        forced_reason=None,
        size_bytes=SERVED_BYTES,
        sha256="0" * 64,
    )
    sidecar_of(target).write_text(generation.to_json())
    settings.serving_path.symlink_to(target.name)


def healthy(folder: Path) -> Path:
    """Two days of good runs, the newest release served."""
    settings = settings_in(folder)
    past = Past(settings)
    for hours in range(48, 0, -6):
        _run_all(past, timedelta(hours=hours), extract_s=1.2 + hours % 5 * 0.1)
    past.close()
    settings.log_dir.mkdir()
    (settings.log_dir / "supervisor.log").write_text("".join(_supervised_lines()))
    os.utime(settings.log_dir / "supervisor.log", (NOW.timestamp() - 60,) * 2)
    serve_at(settings, 12, date(2026, 11, 10), timedelta(hours=42))
    return folder


def failing(folder: Path) -> Path:
    """The release is out, and every try to publish it has failed since yesterday; extract died once."""
    settings = settings_in(folder)
    past = Past(settings)
    _run_all(past, timedelta(days=3), extract_s=1.4)
    past.run("extract", "died", timedelta(days=2), 0, error="its process is gone: killed, out of memory")
    _run_all(past, timedelta(hours=26), extract_s=14.8)
    error = "generation 13 was refused, generation 12 stays served: fct_psd has 1,012,881 rows, 2,171,402 are served"
    parent = past.run(
        "run-all", "failed", timedelta(hours=3), 19.0, error=error, log="".join(_log_lines(6)), result=None
    )
    past.run("extract", "done", timedelta(hours=3), 1.1, parent_id=parent, steps=dict.fromkeys(EXTRACT_NODES, 0.15))
    past.run(
        "export_serving",
        "failed",
        timedelta(hours=3) - timedelta(seconds=2),
        16.0,
        parent_id=parent,
        steps={
            "landed": 0.2,
            "reports": 0.0,
            "lakehouse_pulled": 0.0,
            "transformed": 11.0,
            "lakehouse_pushed": 0.0,
            "built": 2.6,
            "verified": 1.2,
            "gate_faults": 0.1,
            "generation": 0.0,
        },
        broken_step="generation",
        error=error,
        error_detail='Traceback (most recent call last):\n  File "export.py", line 123, in generation\n'
        "GateError: refused",
        log="".join(_log_lines(8)),
    )
    past.close()
    serve_at(settings, 12, date(2026, 10, 9), timedelta(days=3))
    return folder


def _run_all(past: Past, began: timedelta, *, extract_s: float) -> None:
    parent = past.run("run-all", "done", began, extract_s + 0.2, result="nothing new: 2026-11 was landed before")
    past.run(
        "extract",
        "done",
        began,
        extract_s,
        parent_id=parent,
        result="nothing new: 2026-11 was landed before",
        steps=dict.fromkeys(EXTRACT_NODES, extract_s / len(EXTRACT_NODES)),
    )


def _supervised_lines() -> Iterator[str]:
    """Two days of a supervisor that starts what is due."""
    for hours in range(48, 0, -6):
        began = NOW - timedelta(hours=hours)
        yield f"{_stamp(began)} INFO run-all is due\n"
        yield f"{_stamp(began + timedelta(seconds=2))} INFO run-all ended: nothing new\n"
        yield f"{_stamp(began + timedelta(seconds=2))} DEBUG next look in 60 s\n"


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"


def _log_lines(run_id: int) -> list[str]:
    return [
        f"2026-11-21T09:00:00.000Z INFO run={run_id} run began pipeline=export_serving trigger=timer\n",
        f"2026-11-21T09:00:11.200Z INFO run={run_id} step=transformed 1 release compared\n",
        f"2026-11-21T09:00:15.000Z WARNING run={run_id} step=generation fewer rows than before\n",
        f"2026-11-21T09:00:16.000Z ERROR run={run_id} step=generation run failed\n",
        "    Traceback (most recent call last):\n",
        "    GateError: generation 13 was refused\n",
    ]

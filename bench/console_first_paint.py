"""How soon the console shows the pipelines, and then the status, against a bare Textual app with a table, in a pty.

    python -m bench.console_first_paint [ROUNDS]

Prints, per application, the median time from exec to the first frame that holds a known text, and the memory
then; and for the console, with a journal of 10,000 runs, what it writes to the terminal and burns when idle, and
how long a key takes to paint.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from bench.pty_app import started
from ops.journal.file import open_to_write
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tui.shell.pane import PANES

BARE_APP = """
from textual.app import App
from textual.widgets import DataTable

class Bare(App):
    def compose(self):
        yield DataTable()
    def on_mount(self):
        table = self.query_one(DataTable)
        table.add_columns("pipeline", "last run", "began", "took", "outcome")
        for n in range(20):
            table.add_row(f"pipeline {n}", "done", "5 min ago", "1.5 s", "known text")

Bare().run()
"""
RUNS = 10_000
IDLE_S = 15.0
KEYS = 200


@dataclass(frozen=True)
class Painted:
    """A first paint: when (s after exec), and the resident memory then."""

    after_s: float
    rss_mb: float


def first_paint(command: list[str], text: str, environ: dict[str, str]) -> Painted:
    with started(command, environ) as app:
        after_s = app.wait_for(text, timeout_s=30)
        return Painted(after_s, psutil.Process(app.pid).memory_info().rss / 1e6)


def idle(environ: dict[str, str], seconds: float = IDLE_S) -> dict[str, float]:
    """What the console writes and burns while nothing happens, on the screen where it is most."""
    on_each = [_idle_on(screen, environ, seconds) for screen in PANES]
    return {"idle_bytes_per_s": max(each[0] for each in on_each), "idle_cpu_percent": max(each[1] for each in on_each)}


def _idle_on(screen: str, environ: dict[str, str], seconds: float) -> tuple[float, float]:
    """Bytes a second, and percent of a processor."""
    with started([*console(), "--screen", screen], environ) as app:
        app.wait_for("Overview", timeout_s=30)
        app.drain(5.0)
        process = psutil.Process(app.pid)
        before = sum(process.cpu_times()[:2])
        written = app.drain(seconds)
        burnt = sum(process.cpu_times()[:2]) - before
    return written / seconds, 100 * burnt / seconds


def key_to_paint(environ: dict[str, str], keys: int = KEYS) -> dict[str, float]:
    """How long after a cursor key the terminal hears of it, in the history of runs."""
    with started([*console(), "--screen", "runs"], environ) as app:
        app.wait_for("began", timeout_s=30)
        app.drain(2.0)
        took = []
        for number in range(keys):
            app.drain(0.12)
            took.append(app.answer_to(b"\x1b[B" if number % 20 < 10 else b"\x1b[A", timeout_s=2.0) * 1_000)
    took.sort()
    return {"key_ms_p50": took[len(took) // 2], "key_ms_p95": took[int(len(took) * 0.95)], "key_ms_max": took[-1]}


def console() -> list[str]:
    return [sys.executable, "-m", "tui.shell.main"]


@contextmanager
def journal_of(runs: int) -> Iterator[dict[str, str]]:
    """The environment of a data directory whose journal holds so many runs."""
    with tempfile.TemporaryDirectory(prefix="materia-bench-") as folder:
        path = Path(folder) / "runs.sqlite"
        with Journal(path) as journal:
            first = journal.begin("extract")
            journal.finish(first.id, RunStatus.DONE, "nothing new")
        began = datetime.now(UTC) - timedelta(days=30)
        names = ("extract", "transform", "export_serving", "run-all")
        rows = [
            (
                names[number % 4],
                "failed" if number % 97 == 0 else "done",
                (began + timedelta(seconds=number * 200)).isoformat(),
                (began + timedelta(seconds=number * 200 + 5 + number % 13)).isoformat(),
            )
            for number in range(runs)
        ]
        db = open_to_write(path)
        with db:
            db.execute("BEGIN")
            db.executemany(
                'INSERT INTO runs (pipeline, status, "trigger", arguments, started_at, ended_at, pid, process_started,'
                " host, code_version, result)"
                " VALUES (?, ?, 'timer', '[]', ?, ?, 1, '', 'bench', 'bench', 'nothing new')",
                rows,
            )
            db.execute("COMMIT")
        db.close()
        yield os.environ | {"MATERIA_DATA_DIR": folder}


def overview_ms(folder: str, rounds: int = 20) -> float:
    """The median time to take the overview of that data directory."""
    from ops.config.settings import Settings
    from tui.overview.snapshot import read_overview
    from tui.shell.context import create_context

    context = create_context(Settings.from_environ({"MATERIA_DATA_DIR": folder}), read_only=True)
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        read_overview(context)
        took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took)


def measure(rounds: int = 7) -> dict[str, float]:
    """First paint against the bare app, memory, the overview of a long journal, idling, and keys."""
    with journal_of(RUNS) as environ:
        bare, ours, status = [], [], []
        for _ in range(rounds):  # in turns, so that both meet the same noise
            bare.append(first_paint([sys.executable, "-c", BARE_APP], "known text", environ))
            ours.append(first_paint(console(), "export_serving", environ))
            status.append(first_paint(console(), "no data is served yet", environ))
        figures = {
            "bare_first_paint_s": statistics.median(paint.after_s for paint in bare),
            "console_first_paint_s": statistics.median(paint.after_s for paint in ours),
            "bare_rss_mb": statistics.median(paint.rss_mb for paint in bare),
            "console_rss_mb": statistics.median(paint.rss_mb for paint in ours),
            "overview_10000_runs_ms": overview_ms(environ["MATERIA_DATA_DIR"]),
        }
        figures["ratio"] = figures["console_first_paint_s"] / figures["bare_first_paint_s"]
        figures["status_s"] = statistics.median(paint.after_s for paint in status)
        figures["status_ratio"] = figures["status_s"] / figures["bare_first_paint_s"]
        figures |= idle(environ) | key_to_paint(environ)
    return {name: round(value, 3) for name, value in figures.items()}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))

"""How soon a log of gigabytes can be read, is indexed and searched, and whether the console answers meanwhile.

`uv run python -m bench.logs` measures 1 GB, with `--5gb` five; prints the figures as JSON. The console runs in
this process without a terminal: a key is answered when the screen it changes has been drawn.
"""

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import psutil
from textual import events
from textual.geometry import Region
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import Input

from ops.config.settings import Settings
from tui.logs.pane import LogsPane
from tui.logs.scan import Scan
from tui.logs.view import LogView
from tui.shell.app import ConsoleApp
from tui.shell.context import create_context
from tui.shell.messages import OpenLog
from tui.widgets.log_match import LineFilter

GB = 1_000_000_000
NEEDLE = "a needle in the log"
_TIMEOUT_S = 600.0
_BEAT_S = 0.001
_IDLE_S = 3.0


def measure(size_bytes: int = GB) -> dict[str, float]:
    """Figures for a log of that size; it is created in a temporary folder and deleted."""
    with tempfile.TemporaryDirectory(prefix="materia-bench-logs-") as folder:
        settings = Settings.from_environ({"MATERIA_DATA_DIR": folder})
        settings.log_dir.mkdir()
        (settings.log_dir / "a-small-one.log").write_text("nothing\n")
        log = settings.log_dir / "supervisor-old.log"
        needles = _write_log(log, size_bytes)
        return asyncio.run(_measure(settings, log, needles))


def _write_log(path: Path, size_bytes: int) -> int:
    """Write events of about 110 bytes, and a needle every 50 MB; returns how many needles."""
    lines = (
        f"2026-11-21T21:{n // 60 % 60:02d}:{n % 60:02d}.552Z {'ERROR' if n % 500 == 0 else 'INFO'} run={n % 40} "
        f"step=land landed size_bytes={n * 37 % 100_000} path=/data/landing/psd/{n}.zip\n"
        for n in range(90_000)
    )
    block = "".join(lines).encode()
    needles = 0
    with path.open("wb") as log:
        while log.tell() < size_bytes:
            if log.tell() >= needles * 50_000_000:
                log.write(f"2026-11-21T22:00:00.000Z INFO run=1 {NEEDLE}\n".encode())
                needles += 1
            log.write(block[: size_bytes - log.tell() + 1])
    return needles


async def _measure(settings: Settings, log: Path, needles: int) -> dict[str, float]:
    app = ConsoleApp(create_context(settings, read_only=True), owns_process=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("5")
        pane, view = app.query_one(LogsPane), app.query_one(LogView)
        await _until(lambda: view.document is not None)
        memory = _Memory()
        figures = {"size_bytes": float(log.stat().st_size)}
        began = time.perf_counter()
        app.screen.post_message(OpenLog(log))
        await _until(lambda: view.document is not None and view.document.path == log and bool(view._rows))
        await _drawn(view)
        figures["tail_ms"] = 1000 * (time.perf_counter() - began)
        document = view.document
        assert document is not None
        async with _stalls() as stalls:
            cpu = time.process_time()
            await _until(lambda: document.line_count is not None, memory.look)
            figures["index_s"] = time.perf_counter() - began
            figures["index_cpu_s"] = time.process_time() - cpu
        figures["index_stall_max_ms"] = max(stalls)
        # Once more, with somebody at the keys.
        app.screen.post_message(OpenLog(log))
        await _until(lambda: view.document is not document and bool(view._rows))
        again = view.document
        assert again is not None
        figures["key_to_drawn_p95_while_indexing_ms"] = _p95(await _keys(pilot, view, lambda: again.line_count is None))
        await _until(lambda: again.line_count is not None)
        async with _stalls() as stalls:
            # The baseline of this machine while nothing else runs, to compare the others with.
            still = time.perf_counter() + _IDLE_S
            figures["key_to_drawn_p95_idle_ms"] = _p95(await _keys(pilot, view, lambda: time.perf_counter() < still))
            await asyncio.sleep(_IDLE_S)
        figures["idle_stall_max_ms"] = max(stalls)
        figures |= await _search(pilot, pane, memory, needles)
        figures["memory_growth_mb"] = memory.growth_mb
        figures["search_processes_mb"] = memory.children_mb
        return {name: round(figure, 2) for name, figure in figures.items()}


async def _search(pilot: Pilot[None], pane: LogsPane, memory: "_Memory", needles: int) -> dict[str, float]:
    reading = pane._reading
    assert reading is not None
    await pilot.press("slash")
    pilot.app.query_one("#logs-prompt", Input).value = NEEDLE
    await _drawn(pane.query_one(LogView))
    async with _stalls() as stalls:
        began, cpu = time.perf_counter(), _children_cpu_s()
        pilot.app.post_message(events.Key("enter", None))
        await _until(lambda: reading._found is not None)
        found = reading._found
        assert found is not None
        await _until(lambda: found.finished, lambda: memory.look(found))
        search_s = time.perf_counter() - began
        search_cpu_s = _children_cpu_s() - cpu
    assert found.count == needles, f"{needles} needles, found {found.count}"
    await pilot.press("escape")
    async with _stalls() as hide_stalls:
        began = time.perf_counter()
        pane._filter(LineFilter(level="ERROR"))
        shown = reading._shown
        assert shown is not None
        await _until(lambda: shown.finished, lambda: memory.look(shown))
        hide_s = time.perf_counter() - began
    gigabytes = reading.document.size_bytes / GB
    return {
        "search_s": search_s,
        "search_s_per_gb": search_s / gigabytes,
        "search_cpu_s_per_gb": search_cpu_s / gigabytes,
        "search_stall_max_ms": max(stalls),
        "search_stall_p99_ms": sorted(stalls)[99 * len(stalls) // 100],
        "hide_below_error_s_per_gb": hide_s / gigabytes,
        "hide_stall_max_ms": max(hide_stalls),
    }


async def _keys(pilot: Pilot[None], view: LogView, going_on: Callable[[], bool]) -> list[float]:
    """Milliseconds from a key until its changed lines are painted, for keys pressed during other work."""
    painted, render_lines = asyncio.Event(), view.render_lines

    def seen(crop: Region) -> list[Strip]:
        painted.set()
        return render_lines(crop)

    taken: list[float] = []
    with patch.object(view, "render_lines", seen):
        for key in ["pageup", "up", "up", "pagedown", "down"] * 1000:
            if not going_on() and len(taken) > 20:
                break
            began, cursor = time.perf_counter(), view.cursor
            pilot.app.post_message(events.Key(key, None))
            while view.cursor == cursor or not painted.is_set():
                painted.clear()
                await asyncio.wait_for(painted.wait(), _TIMEOUT_S)
            taken.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(0.02)
    return taken


async def _drawn(view: LogView) -> None:
    drawn = asyncio.Event()
    view.call_after_refresh(drawn.set)
    await drawn.wait()


async def _until(done: Callable[[], bool], look: Callable[[], None] = lambda: None) -> None:
    until = time.perf_counter() + _TIMEOUT_S
    while not done():
        if time.perf_counter() > until:
            raise TimeoutError(f"not done within {_TIMEOUT_S} s")
        look()
        await asyncio.sleep(0.005)


@asynccontextmanager
async def _stalls() -> AsyncIterator[list[float]]:
    """Milliseconds by which the event loop was late, beat by beat."""
    late: list[float] = [0.0]

    async def beat() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_BEAT_S)
            late.append(1000 * (time.perf_counter() - began - _BEAT_S))

    task = asyncio.create_task(beat())
    try:
        yield late
    finally:
        task.cancel()


class _Memory:
    """The peak growth of this process and the peak memory of its children, in MB, sampled periodically."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._base = self._process.memory_info().rss
        self._next = 0.0
        self.growth_mb = self.children_mb = 0.0

    def look(self, scan: Scan | None = None) -> None:
        if time.perf_counter() < self._next:
            return
        self._next = time.perf_counter() + 0.25
        self.growth_mb = max(self.growth_mb, (self._process.memory_info().rss - self._base) / 1e6)
        children = 0
        for child in scan._children if scan else ():
            try:
                children += psutil.Process(child._process.pid).memory_info().rss
            except psutil.NoSuchProcess:  # it has just finished
                continue
        self.children_mb = max(self.children_mb, children / 1e6)


def _children_cpu_s() -> float:
    """What the processes that have ended took: on a busy machine, half of it is what two idle cores would need."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _p95(values: list[float]) -> float:
    return sorted(values)[95 * len(values) // 100]


if __name__ == "__main__":
    print(json.dumps(measure(5 * GB if "--5gb" in sys.argv[1:] else GB), indent=2))

"""The Query screen in a real terminal (a pty): its grid of ten million rows, its keys while a query runs, a swap.

`python -m bench.grid` prints the figures as JSON. The console runs as a child process in a pseudo-terminal, is
driven with keys, and answers when the line below the rows, or above them, says what the key must bring about.
The stall of an idle console in the same run is the machine's own noise.
Bars: page-down p95 <= 60 ms and <= 400 MB at ten million rows; key to paint p95 <= 50 ms while five million rows
are sorted; a swap during a long query stalls the loop <= 50 ms, new data within 1 s.
"""

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.reader import Publisher

GRID_ROWS = 10_000_000
PRESSES = 60
SIZE = (40, 140)
_TICK_S = 0.005
_IDLE_S = 3.0
_WAIT_S = 30.0
_GRID_SQL = (
    "SELECT i, i % 97 AS commodity, 'country ' || (i % 50) AS country, (i * 7919) % 1000003 / 7.0 AS value, "
    f"DATE '2020-01-01' + (i % 1000)::INT AS day FROM range({GRID_ROWS}) AS t(i)"
)
_BUSY_SQL = "SELECT i, md5(i::VARCHAR) AS digest, i / 7.0 AS value FROM range(5000000) AS t(i) ORDER BY digest"
_ONE_SQL = "SELECT min(value) AS low, max(value) AS high FROM serving.fct_psd"
_LONG_SQL = (
    "SELECT min(value) AS low, max(value) AS high, sum(hash(j)) AS x FROM serving.fct_psd, range(1500000) AS t(j)"
)
_PAGE_DOWN, _DOWN, _F5, _F6, _ESC = b"\x1b[6~", b"j", b"\x1b[15~", b"\x1b[17~", b"\x1b"


def measure() -> dict[str, Any]:
    """Every figure; takes about a minute."""
    with tempfile.TemporaryDirectory(prefix="materia-grid-") as directory:
        home = Path(directory)
        publisher = Publisher(home / "serving.duckdb")
        publisher.publish()
        with _console(home) as terminal:
            figures = _grid(terminal) | _busy(terminal) | _swap(terminal, publisher)
        stalls = json.loads((home / "stalls.json").read_text())
        for name in ("idle", "busy", "live_swap", "long_swap"):
            start, end = figures.pop(f"{name}_window")
            figures[f"{name}_longest_stall_ms"] = _ms(max((s for t, s in stalls if start <= t <= end), default=0.0))
        return figures | {"load_average": round(os.getloadavg()[0], 1)}


def _grid(terminal: "_Terminal") -> dict[str, Any]:
    terminal.run(_GRID_SQL)
    shown = terminal.wait(rb"\d rows")
    terminal.wait(rb"10,000,000 rows in")
    whole_s = time.monotonic() - terminal.started_at
    terminal.send(_PAGE_DOWN)
    terminal.wait(rb"row [\d,]+ of")
    cpu_s = terminal.cpu_s()
    taken = [terminal.press(_PAGE_DOWN) for _ in range(PRESSES)]
    cpu_s = terminal.cpu_s() - cpu_s
    idle = time.monotonic()
    time.sleep(_IDLE_S)
    idle_window = (idle, time.monotonic())
    terminal.send(b"G")
    terminal.wait(rb"row 10,000,000 of")
    back = [terminal.press(b"\x1b[5~") for _ in range(PRESSES)]
    return {
        "grid_rows": GRID_ROWS,
        "grid_first_rows_ms": _ms(shown),
        "grid_all_rows_s": round(whole_s, 2),
        "page_down_p95_ms": _p95(taken),
        "page_up_from_the_end_p95_ms": _p95(back),
        "page_down_cpu_ms": round(cpu_s / PRESSES * 1000, 1),
        "idle_window": idle_window,
        "grid_memory_mb": terminal.memory_mb("VmRSS"),
        "grid_memory_peak_mb": terminal.memory_mb("VmHWM"),
    }


def _busy(terminal: "_Terminal") -> dict[str, Any]:
    terminal.write_sql(_BUSY_SQL)
    terminal.send(_ESC)
    time.sleep(0.3)
    terminal.press(_DOWN)
    start = time.monotonic()
    terminal.send(_F5)
    taken = []
    while time.monotonic() - start < 2.0 and not terminal.has(rb"5,000,000 rows in"):
        taken.append(terminal.press(_DOWN))
        time.sleep(0.03)
    terminal.wait(rb"5,000,000 rows in")
    return {
        "busy_key_to_paint_p95_ms": _p95(taken),
        "busy_keys": len(taken),
        "busy_query_s": round(time.monotonic() - start, 2),
        "busy_memory_peak_mb": terminal.memory_mb("VmHWM"),
        "busy_window": (start, time.monotonic()),
    }


def _swap(terminal: "_Terminal", publisher: Publisher) -> dict[str, Any]:
    terminal.run(_ONE_SQL)
    terminal.wait(rb"1 row in [^\n]*generation 1")
    terminal.send(_F6)
    terminal.wait(rb"live")
    start, seen = time.monotonic(), []
    for number in range(2, 7):
        publisher.publish()
        published = time.monotonic()
        terminal.wait(rb"generation %d" % number)
        seen.append(time.monotonic() - published)
        time.sleep(0.2)
    figures: dict[str, Any] = {"live_seen_max_ms": _ms(max(seen)), "live_swap_window": (start, time.monotonic())}
    start = time.monotonic()
    terminal.run(_LONG_SQL)
    time.sleep(0.7)
    publisher.publish()
    terminal.wait(rb"1 row in [^\n]*generation 6")
    terminal.wait(rb"1 row in [^\n]*generation 7")
    failed = terminal.has("✗".encode())
    return figures | {
        "long_swap_query_s": round(time.monotonic() - start, 2),
        "long_swap_failed": failed,
        "long_swap_window": (start, time.monotonic()),
    }


class _Terminal:
    """The console's pty: keys go in, what it draws comes out."""

    def __init__(self, descriptor: int, pid: int) -> None:
        self._descriptor, self._pid = descriptor, pid
        self._drawn = b""
        self.started_at = time.monotonic()

    def send(self, keys: bytes) -> None:
        """Forget what was drawn, and press these keys."""
        self._read(0.0)
        self._drawn = b""
        os.write(self._descriptor, keys)

    def write_sql(self, sql: str) -> None:
        """Put `sql` into the editor."""
        self.send(b"e")
        time.sleep(0.3)
        self.send(b"\x01")  # select all
        time.sleep(0.1)
        self.send(b"\x1b[200~" + sql.encode() + b"\x1b[201~")
        time.sleep(0.5)

    def run(self, sql: str) -> None:
        """Put `sql` into the editor, leave it, and run it."""
        self.write_sql(sql)
        self.send(_ESC)
        time.sleep(0.3)
        self.send(_F5)
        self.started_at = time.monotonic()

    def has(self, pattern: bytes) -> bool:
        """Whether it was drawn since the last key."""
        self._read(0.0)
        return re.search(pattern, _plain(self._drawn)) is not None

    def wait(self, pattern: bytes) -> float:
        """Seconds until it is drawn; raises TimeoutError."""
        start = time.monotonic()
        while not re.search(pattern, _plain(self._drawn)):
            if time.monotonic() - start > _WAIT_S:
                raise TimeoutError(f"{pattern!r} was never drawn, but {_plain(self._drawn)[-2000:]!r}")
            self._read(0.05)
        return time.monotonic() - start

    def press(self, key: bytes) -> float:
        """Seconds from a key that moves the cursor to the line that says where it is now."""
        self.send(key)
        return self.wait(rb"row [\d,]+ of")

    def memory_mb(self, name: str) -> float:
        """The child's memory as Linux counts it."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        [kilobytes] = re.findall(rf"{name}:\s+(\d+) kB", status)
        return round(int(kilobytes) / 1000, 1)

    def cpu_s(self) -> float:
        """Seconds of processor that the child has used: what stays the same on a crowded machine."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _read(self, timeout_s: float) -> None:
        while select.select([self._descriptor], [], [], timeout_s)[0]:
            self._drawn += os.read(self._descriptor, 65536)
            timeout_s = 0.0


@contextmanager
def _console(home: Path) -> Iterator[_Terminal]:
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
    environ = os.environ | {
        "MATERIA_DATA_DIR": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }
    command = [sys.executable, "-m", "bench.grid", "console", str(home / "stalls.json")]
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environ)
    os.close(child)
    terminal = _Terminal(parent, process.pid)
    try:
        terminal.wait(rb"F5 runs the query")
        yield terminal
        terminal.send(_ESC)
        time.sleep(0.3)
        terminal.send(b"q")
        process.wait(10)
    finally:
        process.kill()
        process.wait()
        os.close(parent)


def _run_console(stalls_path: Path) -> None:
    """The child: the console, and a meter of how late its loop is."""
    from ops.config.settings import Settings
    from tui.shell.app import ConsoleApp
    from tui.shell.context import create_context

    stalls: list[tuple[float, float]] = []

    class Metered(ConsoleApp):
        async def on_mount(self) -> None:
            self.run_worker(self._meter())

        async def _meter(self) -> None:
            while True:
                due = time.monotonic() + _TICK_S
                await asyncio.sleep(_TICK_S)
                stalls.append((due, time.monotonic() - due))

    Metered(create_context(Settings.from_environ(), read_only=False), first="query").run()
    stalls_path.write_text(json.dumps(stalls))


def _plain(drawn: bytes) -> bytes:
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", drawn)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _p95(seconds: list[float]) -> float:
    return _ms(sorted(seconds)[int(len(seconds) * 0.95)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["console"]:
        _run_console(Path(sys.argv[2]))
    else:
        print(json.dumps(measure(), indent=2))

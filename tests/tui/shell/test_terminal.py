"""Tests of the console in a real terminal with typed keys and a real run on the demo's data."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.command_line import BIN
from tests.support.needs import require_tool
from tests.support.served_demo import ServedDemo
from tests.support.silent_server import silent_server

_WAIT_S = 60.0


class Terminal:
    """A terminal, 120 wide and 36 high, in a tmux server of its own."""

    def __init__(self, socket: Path) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", os.devnull]

    def start(self, data_dir: Path, command: str = str(BIN / "materia-tui")) -> None:
        environ = {**os.environ, "MATERIA_DATA_DIR": str(data_dir), "TERM": "xterm-256color"}
        session = [*self._tmux, "new-session", "-d", "-x", "120", "-y", "36", command]
        subprocess.run(session, check=True, env=environ)

    def type(self, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", *keys], check=True)

    def screen(self) -> str:
        done = subprocess.run([*self._tmux, "capture-pane", "-p"], capture_output=True, text=True)
        return done.stdout

    def colour_of(self, text: str) -> str:
        """Return the colour number of a text on the screen, empty for the default colour."""
        done = subprocess.run([*self._tmux, "capture-pane", "-p", "-e"], capture_output=True, text=True)
        found = re.search(rf"\x1b\[(?:\d+;)*(\d+)m{re.escape(text)}", done.stdout)
        return found[1] if found else ""

    def shows(self, *texts: str) -> None:
        """Wait until every one of the texts is on the screen."""
        self.until(lambda: all(text in self.screen() for text in texts), f"{texts} in\n")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _WAIT_S
        while not holds():
            assert time.monotonic() < deadline, f"waited for {what}{self.screen()}"
            time.sleep(0.1)

    def is_over(self) -> bool:
        return subprocess.run([*self._tmux, "has-session"], capture_output=True).returncode != 0

    def end(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True)


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    require_tool("tmux")
    opened = Terminal(folder / "tmux")
    try:
        yield opened
    finally:
        opened.end()


def test_a_person_finds_every_screen_alive_and_runs_a_pipeline(served_demo: ServedDemo, tmp_path: Path) -> None:
    data_dir = served_demo.copy(tmp_path / "data")
    with terminal(tmp_path) as console:
        console.start(data_dir)
        console.shows("generation 3", "export_serving", "no supervisor has run here")
        console.type("4")
        console.shows("Commodities", "restated", "Coffee, Green")
        console.type("5")
        console.shows("following", "run began")
        console.type("6")
        console.shows("no provider's credentials")
        console.type("3")
        console.shows("F5 runs the query")
        console.type("F5")
        console.shows("rows in", "generation 3", "Coffee, Green")
        console.type("C-q")
        console.until(console.is_over, "the console's end, but there is\n")


@pytest.mark.parametrize(
    ("key", "shown"), [("1", "Alerts"), ("3", "F5 runs the query"), ("5", "following")], ids=lambda text: text
)
def test_quitting_leaves_the_terminal_clean(served_demo: ServedDemo, tmp_path: Path, key: str, shown: str) -> None:
    with terminal(tmp_path) as console:
        console.start(served_demo.data_dir, f"sh -c '{BIN / 'materia-tui'}; echo left with $?; sleep 60'")
        console.shows("generation 3")
        console.type(key)
        console.shows(shown)
        console.type("C-q")
        console.shows("left with")
        assert console.screen().strip() == "left with 0"


def test_a_silent_provider_delays_neither_the_first_screen_nor_quitting(
    served_demo: ServedDemo, tmp_path: Path
) -> None:
    with silent_server() as url, terminal(tmp_path) as console:
        asking = f"env HETZNER_TOKEN=a-token HETZNER_API_URL={url}/v1"
        console.start(served_demo.data_dir, f"sh -c '{asking} {BIN / 'materia-tui'}; echo left with $?; sleep 60'")
        console.shows("generation 3", "waiting for hetzner")
        console.type("6")
        console.shows("no workers known yet", "waiting for hetzner")
        console.type("C-q")
        console.shows("left with")
        assert console.screen().strip() == "left with 0"


def test_a_run_started_in_the_console_is_followed_to_its_end(served_demo: ServedDemo, tmp_path: Path) -> None:
    data_dir = served_demo.copy(tmp_path / "data")
    with terminal(tmp_path) as console:
        console.start(data_dir)
        console.shows("generation 3")
        console.type("2")
        console.shows("Steps", "start")
        console.type("s")
        console.shows("materia pipeline run")
        console.type("Down", "Down", "Enter")
        console.until(lambda: "transform" in console.screen() and "nothing new" in console.screen(), "the run in\n")


@pytest.mark.parametrize(("answer", "opens"), [("Enter", True), ("n", False), ("C-c", False), ("C-d", False)])
def test_the_demo_ends_by_offering_the_console_on_its_data(
    served_demo: ServedDemo, tmp_path: Path, answer: str, opens: bool
) -> None:
    code = tmp_path / "exit-code"
    offer = "from ops.cli import demo; demo.offer_console(demo.Settings.from_environ())"
    with terminal(tmp_path) as console:
        console.start(served_demo.data_dir, f"{sys.executable} -c '{offer}'; echo $? > {code}")
        console.shows("open the console? [Y/n]")
        console.type(answer)
        if answer == "n":
            console.type("Enter")
        if opens:
            console.shows("generation 3", "Alerts")
            console.type("q")
        console.until(console.is_over, "the end, but there is\n")
    assert code.read_text() == "0\n"


def test_a_terminal_of_sixteen_colours_tells_good_from_bad(failing_dir: Path, tmp_path: Path) -> None:
    with terminal(tmp_path) as console:
        console.start(failing_dir, f"env -u COLORTERM -u NO_COLOR TERM=xterm {BIN / 'materia-tui'}")
        console.shows("✗ failed", "● done")
        assert console.colour_of("✗ failed") in {"31", "91"}
        assert console.colour_of("● done") in {"32", "92"}


@pytest.mark.parametrize("ignoring", ["", "trap '' HUP; "], ids=["SIGHUP ends it", "SIGHUP is ignored"])
def test_the_console_ends_with_its_terminal(failing_dir: Path, tmp_path: Path, ignoring: str) -> None:
    pid_file = tmp_path / "pid"
    with terminal(tmp_path) as console:
        console.start(failing_dir, f'sh -c "{ignoring}echo \\$\\$ > {pid_file}; exec {BIN / "materia-tui"}"')
        console.shows("✗ failed")
        process = psutil.Process(int(pid_file.read_text()))
        assert process.is_running()
    process.wait(timeout=_WAIT_S)


_BROKEN = "import tui.shell.driver as driver; driver.InputParser.feed = None; from tui.shell.main import main"


@pytest.mark.parametrize(
    ("command", "signalled", "code"),
    [(f"{sys.executable} -c '{_BROKEN}; raise SystemExit(main([]))'", "", 1), (str(BIN / "materia-tui"), "TERM", 143)],
    ids=["an error in the driver", "SIGTERM"],
)
def test_an_abnormal_end_restores_the_terminal_and_is_no_success(
    served_demo: ServedDemo, tmp_path: Path, command: str, signalled: str, code: int
) -> None:
    script, pid = tmp_path / "console.sh", tmp_path / "pid"
    script.write_text(f"{command} & echo $! > {pid}; fg; echo left with $?; stty -a; sleep 60")
    with terminal(tmp_path) as console:
        console.start(served_demo.data_dir, f"bash -m {script}")
        if signalled:
            console.shows("generation 3", "Alerts")
            subprocess.run(["kill", f"-{signalled}", pid.read_text().strip()], check=True)
        console.shows(f"left with {code}", " echo ", " icanon ")


def test_bytes_that_are_not_utf_8_do_not_end_the_console(served_demo: ServedDemo) -> None:
    process, screen = pty.fork()
    if process == 0:
        os.environ.update(MATERIA_DATA_DIR=str(served_demo.data_dir), TERM="xterm-256color")
        os.execv(BIN / "materia-tui", ["materia-tui"])
    reader = threading.Thread(target=_read_all, args=(screen, output := bytearray()), daemon=True)
    reader.start()
    try:
        _wait_for(output, b"Alerts")
        os.write(screen, b"\xe9\x1b[M\x20\xc8\x3c")
        os.write(screen, b"6")
        _wait_for(output, b"no provider")
        os.write(screen, b"\x11")
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        process = 0
    finally:
        if process:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        os.close(screen)


def _read_all(descriptor: int, output: bytearray) -> None:
    with suppress(OSError):  # the console has ended
        while data := os.read(descriptor, 65536):
            output.extend(data)


def _wait_for(output: bytearray, text: bytes) -> None:
    deadline = time.monotonic() + _WAIT_S
    while text not in output:
        assert time.monotonic() < deadline, f"waited for {text!r}"
        time.sleep(0.05)

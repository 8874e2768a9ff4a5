"""A server of the console that the tests of a module share."""

import signal
from collections.abc import Iterator

import pytest

from tests.support.web_console import WebConsole, start
from tests.tui.building import healthy

_WAIT_S = 30.0


@pytest.fixture(scope="module")
def web_console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebConsole]:
    console = start(healthy(tmp_path_factory.mktemp("web")))
    try:
        yield console
        console.process.send_signal(signal.SIGINT)
        assert console.process.wait(timeout=_WAIT_S) == 0
    finally:
        console.process.kill()
        console.process.wait()

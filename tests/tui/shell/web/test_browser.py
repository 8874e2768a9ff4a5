"""The console in a real browser: Debian's Chromium."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.browser import Browser, Page, run_browser
from tests.support.needs import require_tool
from tests.support.web_console import WebConsole, visit
from tui.shell.web.server import MAX_CONSOLES

pytestmark = pytest.mark.asyncio(loop_scope="module")
_LOST = "document.body.classList.contains('-lost')"
_REASON = "document.querySelector('body.-closed #over')?.innerText"
_CLOSE_SOCKET = "consoleOfTest.socket.socket.close()"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    require_tool("chromium")
    async with run_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, web_console: WebConsole) -> AsyncIterator[Page]:
    """A visitor's page that shows the console; afterwards the console has ended."""
    async with browser.page(web_console.url) as page:
        await page.shows("read-only")
        yield page
        assert page.errors == []
    for process in web_console.consoles():
        process.terminate()
        process.wait(10)


async def test_the_page_shows_the_console_and_keys_reach_it(page: Page) -> None:
    assert "Alerts" in await page.text()
    await page.type("2")
    assert "Alerts" not in await page.shows("Steps")
    assert await page.evaluate("getComputedStyle(document.querySelector('.xterm')).visibility") == "visible"
    assert await page.evaluate("document.fonts.check('16px \"Roboto Mono\"')")


async def test_ctrl_v_pastes_text_of_several_lines_without_running_it(page: Page) -> None:
    await page.type("3")
    await page.shows("F5")
    await page.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    await page.evaluate("navigator.clipboard.writeText('select 41 + 1\\nas pasted_column -- ')")
    await page.press_ctrl("v", "paste")
    lines = (await page.shows("pasted_column")).splitlines()
    (row,) = [number for number, line in enumerate(lines) if "select 41 + 1" in line]
    assert "as pasted_column" in lines[row + 1]


@pytest.mark.parametrize("is_offline", [False, True])
async def test_a_dropped_connection_comes_back_with_the_same_screen(
    page: Page, web_console: WebConsole, is_offline: bool
) -> None:
    await page.type("3")
    await page.shows("F5")
    await page.type("kept_text ")
    await page.shows("kept_text")
    await page.shows("→ columns")  # the tables have been read
    before = await page.settled()
    (process,) = web_console.consoles()
    if is_offline:
        await _go_offline(page, True)
        await page.wait_for(lambda: page.evaluate(_LOST), bool)
        await page.evaluate("new Promise(done => setTimeout(done, 1200))")  # an attempt that fails
        page.errors.clear()
        await page.evaluate("consoleOfTest.terminal.reset()")
        await _go_offline(page, False)
    else:
        await page.evaluate(f"consoleOfTest.terminal.reset(); {_CLOSE_SOCKET}")
        await page.wait_for(lambda: page.evaluate(_LOST), bool)
    await page.wait_for(lambda: page.evaluate(_LOST), lambda lost: not lost)
    await page.wait_for(page.text, lambda text: text == before)
    await page.type("later_text")
    await page.shows("kept_text later_text")
    assert web_console.consoles() == [process]


async def test_a_page_that_is_loaded_again_shows_the_same_console(page: Page, web_console: WebConsole) -> None:
    await page.type("2")
    await page.shows("Steps")
    (process,) = web_console.consoles()
    await page.send("Page.reload")
    await page.shows("Steps")
    assert web_console.consoles() == [process]


async def test_a_ninth_page_shows_that_eight_consoles_are_open(browser: Browser, web_console: WebConsole) -> None:
    async with contextlib.AsyncExitStack() as visitors:
        for _ in range(MAX_CONSOLES):
            await visitors.enter_async_context(visit(web_console.url))
        async with browser.page(web_console.url) as ninth:
            text = await ninth.wait_for(lambda: ninth.evaluate(_REASON), bool)
            assert text.startswith("8 consoles are open, which is the limit; close one")
    for process in web_console.consoles():
        process.kill()


async def test_the_end_of_the_console_is_shown_with_a_way_back(page: Page) -> None:
    await page.type("q")
    await page.wait_for(lambda: page.evaluate(_REASON), lambda text: text and text.startswith("the console has ended"))
    await page.evaluate("document.getElementById('again').click()")
    await page.shows("read-only")


async def test_another_page_cannot_show_the_console_in_a_frame(
    browser: Browser, web_console: WebConsole, tmp_path: Path
) -> None:
    host = tmp_path / "frame.html"
    host.write_text(f'<iframe src="{web_console.url}"></iframe>')
    async with browser.page(host.as_uri()) as page:
        await page.wait_for(lambda: page.evaluate("frames.length && document.readyState"), lambda it: it == "complete")
        await page.evaluate("1")
        assert any("frame-ancestors" in error for error in page.errors), page.errors
    assert web_console.consoles() == []


async def _go_offline(page: Page, offline: bool) -> None:
    await page.send(
        "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )

"""Debian's Chromium without a window, driven over the Chrome DevTools Protocol."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

_WAIT_S = 20.0
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root with one, as CI does
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--window-size=1200,700",
    "--remote-debugging-port=0",
)
_TERMINAL = """
Object.defineProperty(Object.prototype, "websocket_url", {
  configurable: true,
  set(url) {
    window.consoleOfTest = this;
    Object.defineProperty(this, "websocket_url", { value: url, writable: true });
  },
});
window.terminalText = () => {
  const buffer = window.consoleOfTest?.terminal.buffer.active;
  const lines = Array.from({ length: buffer?.length ?? 0 }, (_, y) => buffer.getLine(y).translateToString(true));
  return lines.join("\\n");
};
"""
"""Reads the text of the terminal, which is drawn on a canvas, from the object that textual.js keeps to itself."""


@dataclass
class Page:
    """A tab; `errors` are what its scripts and its loading failed with."""

    socket: aiohttp.ClientWebSocketResponse
    errors: list[str] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self.socket.receive(timeout=_WAIT_S)).data)
            if message.get("id") == number:
                assert "error" not in message, (method, message)
                return dict(message["result"])
            if message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.errors.append(message["params"]["entry"]["text"])
            if message["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]))

    async def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page; waits for a promise."""
        answer = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def open(self, url: str) -> None:
        """Load a page."""
        await self.send("Page.navigate", url=url)

    async def type(self, text: str) -> None:
        """Press the keys of these characters."""
        for character in text:
            await self.send("Input.dispatchKeyEvent", type="keyDown", key=character, text=character)
            await self.send("Input.dispatchKeyEvent", type="keyUp", key=character)

    async def press_ctrl(self, letter: str, *commands: str) -> None:
        """Press Ctrl and a letter; `commands` are the editing commands that the system attaches to that key."""
        key = {
            "key": letter,
            "code": f"Key{letter.upper()}",
            "windowsVirtualKeyCode": ord(letter.upper()),
            "modifiers": 2,
        }
        await self.send("Input.dispatchKeyEvent", type="rawKeyDown", commands=commands, **key)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **key)

    async def text(self) -> str:
        """The characters that the terminal shows."""
        return str(await self.evaluate("terminalText()"))

    async def shows(self, text: str) -> str:
        """Wait until the terminal shows a text; return all that it shows then."""
        return await self.wait_for(self.text, lambda shown: text in shown)

    async def settled(self) -> str:
        """Return what the terminal shows once it has stayed the same for two seconds."""
        before, shown = "", await self.text()
        while shown != before:
            await asyncio.sleep(2)
            before, shown = shown, await self.text()
        return shown

    async def wait_for(self, read: Callable[[], Any], is_wanted: Callable[[Any], bool]) -> Any:
        """Read until the value is what is wanted, and return it."""
        value = None
        try:
            async with asyncio.timeout(_WAIT_S):
                while not is_wanted(value := await read()):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"last seen:\n{value}\nerrors: {self.errors}") from None
        return value


class Browser:
    """A running Chromium."""

    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        self._http = http
        self._address = address

    @contextlib.asynccontextmanager
    async def page(self, url: str) -> AsyncIterator[Page]:
        """Open a tab; it is closed when the context is left."""
        async with self._http.put(f"{self._address}/json/new") as answer:
            target = await answer.json(content_type=None)
        async with self._http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.send(f"{domain}.enable")
            await page.send("Page.addScriptToEvaluateOnNewDocument", source=_TERMINAL)
            await page.open(url)
            yield page
            # Not by the page's own method, which fails while a page loads.
            async with self._http.get(f"{self._address}/json/close/{target['id']}") as closed:
                assert closed.status == 200, await closed.text()


@contextlib.asynccontextmanager
async def run_browser(folder: Path) -> AsyncIterator[Browser]:
    """Start Chromium with an empty profile; it has ended when the context is left."""
    process = await asyncio.create_subprocess_exec(
        "chromium",
        *_OPTIONS,
        f"--user-data-dir={folder}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port_file = folder / "DevToolsActivePort"
        async with asyncio.timeout(_WAIT_S):
            while not (port_file.exists() and "\n" in port_file.read_text()):
                await asyncio.sleep(0.05)
        async with aiohttp.ClientSession() as http:
            yield Browser(http, f"http://127.0.0.1:{port_file.read_text().splitlines()[0]}")
    finally:
        process.terminate()
        await process.wait()

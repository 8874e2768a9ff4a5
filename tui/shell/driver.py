"""The terminal driver: Textual's, with input that no terminal can end the console with.

Textual 8.2.8 ends on a byte that is not UTF-8 and on a malformed key sequence. After an in-band resize report it takes
mouse coordinates for pixels, also in terminals that report cells (Textualize/textual#6668, #4376).
"""

import codecs
import os
import re
import selectors
import signal
import socket
from typing import TYPE_CHECKING, Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App
    from textual.message import Message

_READ_BYTES = 4096
_POLL_S = 0.1
_POLLS = 3
"""How often it looks for the end of a key sequence after the last byte; then it waits for the next byte."""
_X10_MOUSE = re.compile(rb"\x1b\[M[\x20-\xff]{3}")
"""A mouse report whose coordinates are raw bytes. The console asks for another coding, so it is dropped."""


def _decode_as_latin_1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("materia-latin-1", _decode_as_latin_1)


class InputParser:
    """Converts input bytes to Textual's messages. Bytes that are not UTF-8 are decoded as Latin-1."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("materia-latin-1")
        self._parser = _CellParser()

    def feed(self, data: bytes) -> "list[Message]":
        """Parse these bytes; without bytes, end what has waited for more of them. Never raises."""
        text = self._decoder.decode(_X10_MOUSE.sub(b"", data), final=not data)
        messages: list[Message] = []
        try:
            if text:
                messages.extend(self._parser.feed(text))
            messages.extend(self._parser.tick())
        except (ValueError, OverflowError):  # a number in a key sequence that is no character
            self._parser = _CellParser()
        return messages


class _CellParser(XTermParser):
    """Reads mouse coordinates as cells, which they are as long as no one asks for pixels (mode 1016)."""

    mouse_pixels = property(lambda _: False, lambda _, value: None)


class TerminalDriver(LinuxDriver):
    """Textual's driver for Linux and macOS with `InputParser`."""

    def _enable_mouse_pixels(self) -> None:
        """Leave the mouse in cells; Textual cannot tell whether the terminal accepts the mode."""

    def __init__(self, app: "App[object]", **options: Any) -> None:
        super().__init__(app, **options)
        self._wake, self._woken = socket.socketpair()

    def disable_input(self) -> None:
        self._wake.send(b"!")  # the input thread may be waiting for a byte
        super().disable_input()

    def run_input_thread(self) -> None:
        parser = InputParser()
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            polls = _POLLS
            while not self.exit_event.is_set():
                ready = {key.fileobj for key, _ in selector.select(_POLL_S if polls else None)}
                polls = _POLLS if ready else polls - 1
                if self._woken in ready:
                    self._woken.recv(1)
                for message in parser.feed(self._read() if self.fileno in ready else b""):
                    self.process_message(message)

    def _read(self) -> bytes:
        """Read what has arrived; end the process when the terminal is gone, because a write to it would block."""
        try:
            data = os.read(self.fileno, _READ_BYTES)
        except OSError:
            data = b""
        if not data:
            os._exit(128 + signal.SIGHUP)
        return data

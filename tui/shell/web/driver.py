"""The driver of a console in a browser: Textual's, with the console's own input parser."""

import os
import signal

from textual.drivers._byte_stream import ByteStream
from textual.drivers.web_driver import WebDriver, _ExitInput

from tui.shell.driver import InputParser


class BrowserDriver(WebDriver):
    """Textual's web driver that ends with its server and draws everything again for a visitor who comes back."""

    def run_input_thread(self) -> None:
        parser, packets = InputParser(), ByteStream()
        try:
            for data in self._input_reader:
                for kind, payload in packets.feed(data) if data else ():
                    if kind == "D":
                        self._process_messages(parser, payload)
                    else:
                        self._on_meta(kind, payload)
                self._process_messages(parser, b"")
        except _ExitInput:
            return
        if not self.exit_event.is_set():  # stdin was closed: the server is gone, also when it was killed
            os._exit(128 + signal.SIGHUP)

    def _process_messages(self, parser: InputParser, data: bytes) -> None:
        for message in parser.feed(data):
            self.process_message(message)

    def on_meta(self, packet_type: str, payload: dict[str, object]) -> None:
        if packet_type == "attach":
            self._app.call_later(self._draw_everything)
        else:
            super().on_meta(packet_type, payload)

    def _draw_everything(self) -> None:
        """Draw for a terminal that has seen nothing of what `start_application_mode` and the app have written."""
        self.write("\x1b[?1049h\x1b[?25l")
        self._enable_mouse_support()
        self._enable_bracketed_paste()
        self._app.refresh(layout=True)

"""Follows the system journal with `journalctl` and writes it to a log file in our own format."""

import json
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tui.logs.times import time_of

UNIT = "materia-supervisor"
COMMAND = ("journalctl", "--unit", UNIT, "--follow", "--output", "json", "--lines", "20000")
_PART_BYTES = 64 << 20
_LEVELS = ("CRITICAL", "CRITICAL", "CRITICAL", "ERROR", "WARNING", "INFO", "INFO", "DEBUG")


class SystemJournal:
    """Copies the journal to a temporary file, rotated to limit its size, until closed."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="materia-journal-", ignore_cleanup_errors=True)
        self.path = Path(self._folder.name) / f"{UNIT}.log"
        self.path.touch()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._thread = threading.Thread(target=self._write, name="log-journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop `journalctl` and remove the file."""
        self._process.kill()
        self._thread.join()
        self._folder.cleanup()

    def _write(self) -> None:
        assert self._process.stdout is not None
        log = self.path.open("ab", buffering=0)
        with self._process.stdout as entries:
            for entry in entries:
                if log.tell() > _PART_BYTES:
                    log.close()
                    self.path.replace(self.path.with_name(f"{self.path.name}.1"))
                    log = self.path.open("ab", buffering=0)
                log.write(log_line(entry))
        log.close()
        self._process.wait()


def log_line(entry: bytes) -> bytes:
    """Convert an entry of `journalctl --output json` to log lines; other output (such as errors) stays unchanged."""
    try:
        record: dict[str, Any] = json.loads(entry)
        moment = datetime.fromtimestamp(int(record["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        level = _LEVELS[int(record.get("PRIORITY", 6))]
        message = record.get("MESSAGE") or ""
        # journalctl outputs text that is not UTF-8 as an array of bytes.
        text = message.encode() if isinstance(message, str) else bytes(message)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return entry.rstrip(b"\n") + b"\n"
    first, *more = text.split(b"\n")
    if time_of(first) is None:
        first = f"{moment.isoformat(timespec='milliseconds').replace('+00:00', 'Z')} {level} ".encode() + first
    return b"\n".join([first, *(b"    " + line.lstrip() for line in more)]) + b"\n"

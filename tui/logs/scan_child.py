"""A process that looks through files for the lines of a filter, so that the console never waits for that.

It is handed a socket and a file to write to. The socket brings the filter, then stretches of files to look
through, each with the open file. Where matching lines begin goes to the file, 4 bytes each, counted from
their chunk's start; how many there were in which chunk goes back on the socket.
"""

import json
import os
import socket
import struct
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass

from tui.logs.lines import CHUNK_BYTES, OpenFile, line_start, line_stop
from tui.widgets.log_match import LineFilter, Matcher

SPOOL_BYTES = 256 << 20
"""What the matches of one process may take on disk: 67 million lines."""

_CONTEXT_BYTES = 64 << 10
_REPORT_EVERY_S = 0.05
_NICENESS = 5
_REQUEST = struct.Struct("<QQQQ?")
_REPORT = struct.Struct("<QQQQQB?")
REPORT_BYTES = _REPORT.size

FOUND, FINISHED, FULL = range(3)


@dataclass(frozen=True)
class Request:
    """Look through the bytes `start` to `stop`, both where lines begin, in every `stride`-th chunk."""

    segment: int
    start: int
    stop: int
    stride: int
    backward: bool


@dataclass(frozen=True)
class Report:
    """`count` lines of those that begin in `start` to `stop` match; their places are in the spool at `spool_at`."""

    segment: int
    start: int
    stop: int
    count: int
    spool_at: int
    kind: int
    backward: bool


def send_filter(channel: socket.socket, wanted: LineFilter) -> None:
    """Say what to look for; not an argument of the process, since those everybody can read."""
    text = json.dumps(wanted.to_json()).encode()
    channel.sendall(struct.pack("<I", len(text)) + text)


def send_request(channel: socket.socket, request: Request, fd: int) -> None:
    """Ask for one more stretch of the open file `fd`."""
    socket.send_fds(channel, [_REQUEST.pack(*astuple(request))], [fd])


def reports_in(data: bytes) -> Iterator[Report]:
    """The reports in `data`, which holds whole ones."""
    return (Report(*values) for values in _REPORT.iter_unpack(data))


def main(channel: socket.socket, spool_fd: int) -> None:
    """Answer requests until the other side closes the channel."""
    (length,) = struct.unpack("<I", _received(channel, 4))
    matcher = Matcher(LineFilter.from_json(json.loads(_received(channel, length))))
    reports = _Reports(channel)
    spooled_bytes = 0
    while True:
        data, fds, _, _ = socket.recv_fds(channel, _REQUEST.size, 1)
        if not data:
            return
        request = Request(*_REQUEST.unpack(data + _received(channel, _REQUEST.size - len(data))))
        file = OpenFile.of(fds[0])
        for start, stop in _stretches(request):
            places = array("I", _places(file, matcher, start, stop))
            if spooled_bytes + 4 * len(places) > SPOOL_BYTES:
                reports.send(Report(request.segment, start, stop, 0, 0, FULL, request.backward), now=True)
                return
            os.write(spool_fd, places)
            reports.send(Report(request.segment, start, stop, len(places), spooled_bytes, FOUND, request.backward))
            spooled_bytes += 4 * len(places)
        finished = Report(request.segment, request.start, request.stop, 0, 0, FINISHED, request.backward)
        reports.send(finished, now=True)
        file.close()


class _Reports:
    """Sends reports some at a time: each one sent wakes the console, which has a person to answer."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._kept = b""
        self._sent_at = 0.0

    def send(self, report: Report, *, now: bool = False) -> None:
        """Send a report together with those kept back, or keep it back unless it is wanted `now`."""
        self._kept += _REPORT.pack(*astuple(report))
        moment = time.monotonic()
        if now or moment - self._sent_at >= _REPORT_EVERY_S:
            self._channel.sendall(self._kept)
            self._kept, self._sent_at = b"", moment


def _stretches(request: Request) -> list[tuple[int, int]]:
    """The parts of a request's chunks, in the order to look through."""
    first, last = request.start // CHUNK_BYTES, (request.stop - 1) // CHUNK_BYTES
    chunks = range(last, first - 1, -request.stride) if request.backward else range(first, last + 1, request.stride)
    return [(max(chunk * CHUNK_BYTES, request.start), min((chunk + 1) * CHUNK_BYTES, request.stop)) for chunk in chunks]


def _places(file: OpenFile, matcher: Matcher, start: int, stop: int) -> Iterator[int]:
    """Where, from the chunk's start, matching lines begin that begin in `start` to `stop`."""
    chunk = start - start % CHUNK_BYTES
    size = file.status().st_size
    first = start if start == 0 or line_start(file, start) == start else line_stop(file, line_start(file, start), size)
    if first >= stop:
        return iter(())
    context = line_start(file, max(first - _CONTEXT_BYTES, 0))
    data = file.read(context, line_stop(file, line_start(file, stop - 1), size))
    found = matcher.lines(data, first - context, min(stop - context, len(data)))
    return (context + place - chunk for place in found)


def _received(channel: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = channel.recv(length - len(data))
        if not more:
            raise EOFError("the console is gone")
        data += more
    return data


if __name__ == "__main__":
    # Whoever looks at the console comes first, on every core.
    os.nice(_NICENESS)
    # The console goes away, or ends this process, whenever it likes.
    with suppress(BrokenPipeError, ConnectionResetError, EOFError), socket.socket(fileno=int(sys.argv[1])) as given:
        main(given, int(sys.argv[2]))

"""The scan process: finds the matching lines of files, so that the console never blocks on a scan.

It inherits a socket and a spool file. The socket delivers the filter, then requests for ranges of files, each with the
open file. The offsets of matching lines, 4 bytes each relative to their chunk, are written to the spool file; the
number of matches per chunk is reported on the socket.
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
"""Maximum size of the spool file of one process: 67 million matches."""

_CONTEXT_BYTES = 64 << 10
_REPORT_EVERY_S = 0.05
_NICENESS = 5
_REQUEST = struct.Struct("<QQQQ?")
_REPORT = struct.Struct("<QQQQQB?")
REPORT_BYTES = _REPORT.size

FOUND, FINISHED, FULL = range(3)


@dataclass(frozen=True)
class Request:
    """Scan the bytes from `start` to `stop` (both at line starts) in every `stride`-th chunk."""

    segment: int
    start: int
    stop: int
    stride: int
    backward: bool


@dataclass(frozen=True)
class Report:
    """`count` lines that start between `start` and `stop` match; their offsets are in the spool at `spool_at`."""

    segment: int
    start: int
    stop: int
    count: int
    spool_at: int
    kind: int
    backward: bool


def send_filter(channel: socket.socket, line_filter: LineFilter) -> None:
    """Send the filter. It is not a command-line argument because those are visible to all users."""
    text = json.dumps(line_filter.to_json()).encode()
    channel.sendall(struct.pack("<I", len(text)) + text)


def send_request(channel: socket.socket, request: Request, fd: int) -> None:
    """Request a scan of a range of the open file `fd`."""
    socket.send_fds(channel, [_REQUEST.pack(*astuple(request))], [fd])


def reports_in(data: bytes) -> Iterator[Report]:
    """Decode the reports in `data`, which must contain whole reports."""
    return (Report(*values) for values in _REPORT.iter_unpack(data))


def main(channel: socket.socket, spool_fd: int) -> None:
    """Answer requests until the other side closes the channel."""
    (length,) = struct.unpack("<I", _receive_exactly(channel, 4))
    matcher = Matcher(LineFilter.from_json(json.loads(_receive_exactly(channel, length))))
    reports = _Reports(channel)
    spooled_bytes = 0
    while True:
        data, fds, _, _ = socket.recv_fds(channel, _REQUEST.size, 1)
        if not data:
            return
        request = Request(*_REQUEST.unpack(data + _receive_exactly(channel, _REQUEST.size - len(data))))
        file = OpenFile.of(fds[0])
        for start, stop in _chunk_ranges(request):
            places = array("I", _match_offsets(file, matcher, start, stop))
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
    """Sends reports in batches, because each message wakes the console."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._kept = b""
        self._sent_at = 0.0

    def send(self, report: Report, *, now: bool = False) -> None:
        """Queue a report; send the queue when the last send is long enough ago or with `now`."""
        self._kept += _REPORT.pack(*astuple(report))
        moment = time.monotonic()
        if now or moment - self._sent_at >= _REPORT_EVERY_S:
            self._channel.sendall(self._kept)
            self._kept, self._sent_at = b"", moment


def _chunk_ranges(request: Request) -> list[tuple[int, int]]:
    """Return the byte ranges of a request's chunks in scan order."""
    first, last = request.start // CHUNK_BYTES, (request.stop - 1) // CHUNK_BYTES
    chunks = range(last, first - 1, -request.stride) if request.backward else range(first, last + 1, request.stride)
    return [(max(chunk * CHUNK_BYTES, request.start), min((chunk + 1) * CHUNK_BYTES, request.stop)) for chunk in chunks]


def _match_offsets(file: OpenFile, matcher: Matcher, start: int, stop: int) -> Iterator[int]:
    """Return the offsets, relative to the chunk, of matching lines that start between `start` and `stop`."""
    chunk = start - start % CHUNK_BYTES
    size = file.status().st_size
    first = start if start == 0 or line_start(file, start) == start else line_stop(file, line_start(file, start), size)
    if first >= stop:
        return iter(())
    context = line_start(file, max(first - _CONTEXT_BYTES, 0))
    data = file.read(context, line_stop(file, line_start(file, stop - 1), size))
    found = matcher.lines(data, first - context, min(stop - context, len(data)))
    return (context + place - chunk for place in found)


def _receive_exactly(channel: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = channel.recv(length - len(data))
        if not more:
            raise EOFError("the console closed the channel")
        data += more
    return data


if __name__ == "__main__":
    # The console has priority on every core.
    os.nice(_NICENESS)
    # The console may exit or close the channel at any time.
    with suppress(BrokenPipeError, ConnectionResetError, EOFError), socket.socket(fileno=int(sys.argv[1])) as channel:
        main(channel, int(sys.argv[2]))

"""A hostile archive or proxy: typed errors in time, nothing landed."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataflows.errors import MateriaError
from dataflows.source import archive as archive_module
from dataflows.source.archive import Archive
from dataflows.source.http import RetryPolicy
from dataflows.source.release import Month, release_of
from tests.support.psd_files import DATASET, release_zip
from tests.support.torture import Figure, count

HASTE = RetryPolicy(attempts=2, first_pause_s=0.01, longest_pause_s=0.02, idle_s=0.6, probe_s=0.7, download_s=0.7)
MOST_S = 2 * (HASTE.download_s + HASTE.idle_s) + 2
"""However the other side behaves, a request ends: two attempts, each until its deadline."""

ZIP = release_zip()
OK = b"HTTP/1.1 200 OK\r\n"
Talk = Callable[[socket.socket], None]


def says(*parts: bytes) -> Talk:
    return lambda line: line.sendall(b"".join(parts))


def drips(start: bytes, rest: bytes, pause_s: float = 0.02) -> Talk:
    """Says `rest` a byte at a time, for ever."""

    def talk(line: socket.socket) -> None:
        line.sendall(start)
        while True:
            for byte in rest:
                line.sendall(bytes([byte]))
                time.sleep(pause_s)

    return talk


def floods(start: bytes, again: bytes) -> Talk:
    """Says `again` and again as fast as it is read."""

    def talk(line: socket.socket) -> None:
        line.sendall(start)
        while True:
            line.sendall(again * 64)

    return talk


def with_length(length: str, body: bytes = ZIP) -> Talk:
    return says(OK, f"Content-Length: {length}\r\n\r\n".encode(), body)


BOMB = gzip.compress(bytes(50 << 20))
SERVERS = {
    "says nothing": lambda line: time.sleep(10),
    "hangs up": lambda line: None,
    "drips its status": drips(b"", b"HTTP/1.1 200 OK"),
    "drips its headers": drips(OK, b"X: y\r\n"),
    "drips its body": drips(OK + b"Content-Length: 100000\r\n\r\n", b"PK\x03\x04"),
    "drips chunks": drips(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nP\r\n"),
    "floods headers": floods(OK, b"X-Header: " + b"y" * 1000 + b"\r\n"),
    "floods one header": floods(OK + b"X: ", b"y" * 1000),
    "floods its status": floods(b"HTTP/1.1 200 ", b"O" * 1000),
    "floods its body": floods(OK + b"\r\nPK\x03\x04", bytes(1 << 16)),
    "floods chunks": floods(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + bytes(0x400) + b"\r\n"),
    "floods continue": floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "floods early hints": floods(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "sends a chunk without end": floods(OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFF\r\n", bytes(1 << 16)),
    "is no HTTP": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "is HTTP 0.9": says(ZIP),
    "knows status 999": says(b"HTTP/1.1 999 Eh\r\n\r\n"),
    "knows status -1": says(b"HTTP/1.1 -1 Eh\r\n\r\n"),
    "sends a length below nothing": with_length("-1"),
    "sends a length that is no number": with_length("\u00b2"),
    "sends a length of 400 digits": with_length("9" * 400),
    "sends too long a length": with_length(str(len(ZIP) + 1)),
    "sends two lengths": with_length("10\r\nContent-Length: 20"),
    "sends a length and chunks": with_length("10\r\nTransfer-Encoding: gzip"),
    "folds its headers": says(OK, b"X: a\r\n b\r\n\tc: d\r\n", b"\0: x\r\n\r\n", ZIP),
    "sends a NUL in a header": says(OK, b"ETag: a\0b\r\n\r\n", ZIP),
    "sends packed bytes": says(OK, f"Content-Encoding: gzip\r\nContent-Length: {len(BOMB)}\r\n\r\n".encode(), BOMB),
    "sends bytes packed twice": says(OK, b"Content-Encoding: gzip, gzip\r\n\r\n", gzip.compress(BOMB)),
    "sends bytes packed unheard-of": says(OK, b"Content-Encoding: rot13\r\n\r\n", ZIP),
    "sends a part that nobody asked for": says(
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nabcde"
    ),
    "sends a part of nothing": says(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nabcde"),
    "sends a part of what has 5,000 digits": says(
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/%s\r\nContent-Length: 5\r\n\r\nabcde" % (b"9" * 5000)
    ),
    "sends a part of everything": says(
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9999999999999\r\nContent-Length: 5\r\n\r\nabcde"
    ),
    "has not changed": says(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "fails again and again": says(b"HTTP/1.1 503 No\r\nRetry-After: 99999999999\r\nContent-Length: 0\r\n\r\n"),
    "wants a teapot": says(b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n"),
    "wants a password": says(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'),
    "wants another protocol": says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
    **{
        f"points to {where[:30]}": says(
            f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        for where in (
            "file:///etc/passwd",
            "http://169.254.169.254/latest/meta-data/",
            "http://127.0.0.1:22/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:99999/",
            "http://localhost/",
            "//[::1]/x",
            "gopher://127.0.0.1/x",
            "data:application/zip;base64,UEs=",
            "javascript:alert(1)",
            "http://user:pass@127.0.0.2/",
            "http://127.0.0.1.evil.test/",
            "\\\\127.0.0.2\\x",
            "",
            "?" + "x" * 60_000,
        )
    },
}


@pytest.fixture
def serve() -> Iterator[Callable[[Talk], str]]:
    """Starts a server that talks so to everybody; gives its address."""
    listeners: list[socket.socket] = []

    def attend(line: socket.socket, talk: Talk) -> None:
        with line:
            try:
                line.settimeout(5)
                while b"\r\n\r\n" not in line.recv(65_536):
                    pass
                talk(line)
            except OSError:
                return  # the client has hung up, as it should

    def accept(listener: socket.socket, talk: Talk) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(line, talk), daemon=True).start()

    def start(talk: Talk) -> str:
        listeners.append(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=accept, args=(listeners[-1], talk), daemon=True).start()
        return f"http://127.0.0.1:{listeners[-1].getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("name", SERVERS)
def test_an_answer_that_means_no_good_ends_in_a_typed_error_in_time(
    serve: Callable[[Talk], str], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    monkeypatch.setattr(archive_module, "MAX_ZIP_BYTES", count(8, 256) << 20)
    release = release_of(serve(SERVERS[name]), DATASET, Month(2025, 11))
    archive, began = Archive(HASTE), time.monotonic()
    try:
        with pytest.raises(MateriaError) as refused:
            archive.download(release, tmp_path / "part.zip")
    finally:
        archive.close()
    took_s = time.monotonic() - began
    assert release.url in str(refused.value)
    assert took_s < MOST_S + 60  # the machine may be busy; unbounded, it would never end
    assert {path.name for path in tmp_path.iterdir()} <= {"part.zip", "part.zip.validators"}  # to go on from
    figure(f"seconds until {name!r} is given up", round(took_s, 2))

"""SSH to one worker: only its own host key is accepted, and no command contains a secret.

A script and its input are sent over the channel's stdin, without a terminal, so that argument lists, environments and
temporary files do not contain them.
"""

import io
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.workers.errors import HostKeyError, UnreachableError, WorkerError
from ops.workers.keys import KeyPair

if TYPE_CHECKING:
    from fabric import Connection

_CONNECT_TIMEOUT_S = 10.0
_KEEPALIVE_S = 15
_READ_BYTES = 65_536
_POLL_S = 0.5
_MAX_LINE_BYTES = 1 << 20
_TAIL_CHARS = 2_000


@dataclass(frozen=True)
class Access:
    """Address, credentials and host key of a worker."""

    host: str
    port: int
    user: str
    client_key: KeyPair
    host_key: str
    """The only public host key that is accepted."""


@dataclass(frozen=True)
class ScriptResult:
    """The result of a script: exit code (None if the connection was lost) and the end of its stderr."""

    exit_code: int | None
    stderr: str


def connect(access: Access) -> "Connection":
    """Open a connection; raises HostKeyError if another machine answers, UnreachableError if none does."""
    import paramiko
    from fabric import Config, Connection

    connection = Connection(
        access.host,
        user=access.user,
        port=access.port,
        # Ignore the user's SSH configuration, agent and known hosts.
        config=Config(overrides={"load_ssh_configs": False}, lazy=True),
        connect_timeout=int(_CONNECT_TIMEOUT_S),
        connect_kwargs={
            "pkey": paramiko.Ed25519Key.from_private_key(io.StringIO(access.client_key.private)),
            "allow_agent": False,
            "look_for_keys": False,
            "banner_timeout": _CONNECT_TIMEOUT_S,
            "auth_timeout": _CONNECT_TIMEOUT_S,
        },
    )
    kind, encoded = access.host_key.split()[:2]
    known = f"[{access.host}]:{access.port}" if access.port != 22 else access.host
    key = paramiko.hostkeys.HostKeyEntry.from_line(f"{known} {kind} {encoded}")
    if key is None or key.key is None:
        raise WorkerError(f"invalid host key of {access.host}: {kind}")
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    connection.client.get_host_keys().add(known, kind, key.key)
    try:
        connection.open()
        connection.transport.set_keepalive(_KEEPALIVE_S)
    except Exception as error:
        connection.close()
        raise _unreachable(access, error) from error
    return connection


def wait_for_ssh(access: Access, within_s: float, pause_s: float = 2.0) -> "Connection":
    """Connect as soon as the worker answers; raises UnreachableError if it does not within `within_s`.

    A wrong host key ends the wait, except during the first third: an image may start with keys of its own before
    cloud-init replaces them.
    """
    deadline = time.monotonic() + within_s
    lenient_until = time.monotonic() + within_s / 3
    while True:
        try:
            return connect(access)
        except UnreachableError as error:
            now = time.monotonic()
            if now + pause_s > deadline or (isinstance(error, HostKeyError) and now > lenient_until):
                raise
            time.sleep(pause_s)


def run_script(
    connection: "Connection",
    script: str,
    *,
    timeout_s: float,
    stdin: bytes = b"",
    on_line: Callable[[bytes], None] = lambda line: None,
    quiet_s: float | None = None,
) -> ScriptResult:
    """Run a bash script on the worker; `on_line` gets each line of its output as it arrives.

    The script gets `stdin` as its file descriptor 3. The remote side ends it and its children after `timeout_s`. If the
    connection ends, or is silent for `quiet_s`, the exit code is None.
    """
    import paramiko

    # bash reads the whole script before it runs it, so that the rest of stdin is left for the script.
    text = f"exec 3<&0\nmain() {{\nset -eu\n{script}\n}}\nmain </dev/null; exit $?\n"
    stderr = b""
    lines = _Lines(on_line)
    deadline = time.monotonic() + timeout_s + 10
    try:
        channel = connection.transport.open_session(timeout=_CONNECT_TIMEOUT_S)
        with channel:
            channel.exec_command(f"timeout -k 5 {max(1, round(timeout_s))} bash -s")
            channel.settimeout(_POLL_S)
            _send(channel, text.encode() + stdin, deadline)
            channel.shutdown_write()
            last_output_at = time.monotonic()
            while True:
                if channel.recv_stderr_ready():
                    stderr = (stderr + channel.recv_stderr(_READ_BYTES))[-4 * _TAIL_CHARS :]
                try:
                    received = channel.recv(_READ_BYTES)
                except TimeoutError:
                    now = time.monotonic()
                    if now > deadline or (quiet_s is not None and now - last_output_at > quiet_s):
                        return ScriptResult(None, _text(stderr))
                    continue
                last_output_at = time.monotonic()
                if not received:
                    break
                lines.take(received)
            while data := channel.recv_stderr(_READ_BYTES):
                stderr = (stderr + data)[-4 * _TAIL_CHARS :]
            code = channel.recv_exit_status() if channel.status_event.wait(_CONNECT_TIMEOUT_S) else -1
    except (OSError, EOFError, paramiko.SSHException) as error:
        return ScriptResult(None, f"{_text(stderr)} {type(error).__name__}: {error}".strip())
    # -1: the channel was closed without an exit status.
    return ScriptResult(code if code >= 0 else None, _text(stderr))


def _send(channel: Any, data: bytes, deadline: float) -> None:
    view = memoryview(data)
    while view:
        if time.monotonic() > deadline:
            raise TimeoutError("the worker does not read its input")
        with suppress(TimeoutError):
            view = view[channel.send(view[:_READ_BYTES]) :]


class _Lines:
    """Splits received bytes into lines; raises WorkerError for a line that is too long."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def take(self, received: bytes) -> None:
        *whole, self._rest = (self._rest + received).split(b"\n")
        for line in whole:
            self._on_line(line)
        if len(self._rest) > _MAX_LINE_BYTES:
            raise WorkerError(f"the worker sent a line of more than {_MAX_LINE_BYTES} bytes")


def _unreachable(access: Access, error: Exception) -> UnreachableError:
    import paramiko

    where = f"{access.user}@{access.host} port {access.port}"
    if isinstance(error, paramiko.BadHostKeyException) or "not found in known_hosts" in str(error):
        return HostKeyError(f"wrong host key: the machine at {where} is not our worker; the connection was refused")
    if isinstance(error, socket.gaierror | OSError | EOFError | paramiko.SSHException):
        return UnreachableError(f"no SSH to {where}: {type(error).__name__}: {error}")
    raise error


def _text(stderr: bytes) -> str:
    return stderr.decode(errors="replace").strip()[-_TAIL_CHARS:]

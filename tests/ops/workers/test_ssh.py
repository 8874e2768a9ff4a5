"""SSH to a worker, against a real OpenSSH server."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ops.workers.errors import HostKeyError, UnreachableError
from ops.workers.keys import new_key
from ops.workers.ssh import Access, connect, run_script, wait_for_ssh
from tests.support.needs import require_tool
from tests.support.ports import free_port
from tests.support.seen_secrets import secrets_in_processes
from tests.support.ssh_server import SshServer

SECRET = "canary-7d1f0b3c9e"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshServer, Access]]:
    require_tool("sshd", "pkill")
    host_key, client_key = new_key(), new_key()
    server = SshServer(
        tmp_path_factory.mktemp("machine"), "127.0.0.1", free_port(), host_key.private, [client_key.public]
    )
    yield server, Access("127.0.0.1", server.port, "root", client_key, host_key.public)
    server.stop()


def test_lines_arrive_as_they_are_written_and_the_exit_code_at_the_end(machine):
    _, access = machine
    chunks = []
    with connect(access) as connection:
        ended = run_script(connection, "echo one; echo two; echo oh >&2; exit 7", timeout_s=10, on_line=chunks.append)
    assert (chunks, ended.exit_code) == ([b"one", b"two"], 7)
    assert ended.stderr.endswith("oh")


def test_stdin_arrives_complete(machine):
    _, access = machine
    data = bytes(range(256)) * 8_000
    chunks = []
    script = f"head -c {len(data)} <&3 | sha256sum"
    with connect(access) as connection:
        assert run_script(connection, script, timeout_s=20, stdin=data, on_line=chunks.append).exit_code == 0
    import hashlib

    assert chunks[0].split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_another_host_key_is_refused(machine):
    _, access = machine
    with pytest.raises(HostKeyError, match="wrong host key"):
        connect(replace(access, host_key=new_key().public))


def test_another_client_key_gets_nowhere(machine):
    _, access = machine
    with pytest.raises(UnreachableError):
        connect(replace(access, client_key=new_key()))


def test_a_closed_port_is_an_error_within_the_timeout():
    access = Access("127.0.0.1", free_port(), "root", new_key(), new_key().public)
    with pytest.raises(UnreachableError, match="no SSH"):
        wait_for_ssh(access, within_s=0.3, pause_s=0.1)


def test_the_remote_side_ends_what_takes_too_long_with_all_it_began(machine):
    server, access = machine
    with connect(access) as connection:
        ended = run_script(connection, "sleep 61 & sleep 62", timeout_s=1)
    assert ended.exit_code == 124
    time.sleep(0.2)
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in server.running()]
    assert not any(b"sleep" in command for command in commands)


def test_a_lost_connection_has_no_exit_code(machine):
    server, access = machine
    with connect(access) as connection:
        ended = run_script(connection, "echo on; sleep 30", timeout_s=40, on_line=lambda line: server.cut())
    assert ended.exit_code is None


def test_silence_is_not_waited_for_endlessly(machine):
    _, access = machine
    with connect(access) as connection:
        assert run_script(connection, "sleep 5", timeout_s=20, quiet_s=0.5).exit_code is None


def test_no_secret_is_seen_in_any_process_or_in_the_servers_log(machine):
    server, access = machine
    chunks = []
    script = f"word={SECRET}; read -r other <&3; sleep 0.3; printf '%s' \"$word$other\" | wc -c"
    seen: set[str] = set()
    looking = threading.Timer(0.15, lambda: seen.update(secrets_in_processes((SECRET,))))
    looking.start()
    with connect(access) as connection:
        ended = run_script(connection, script, timeout_s=10, stdin=f"{SECRET}\n".encode(), on_line=chunks.append)
    looking.join()
    assert (ended.exit_code, chunks) == (0, [str(2 * len(SECRET)).encode()])
    assert seen == set()
    assert SECRET not in server.log.read_text(errors="replace")

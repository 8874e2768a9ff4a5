"""A fake provider whose machines are real OpenSSH servers on loopback: where a worker's whole life can be lived."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ops.config.settings import Settings
from ops.workers.hiring import Hire, hire_of
from ops.workers.providers import hetzner
from ops.workers.settings import WorkerSettings
from tests.support.fake_hetzner import TOKEN, FakeHetzner
from tests.support.ports import free_port
from tests.support.ssh_server import SshServer

QUICK = r"""#!/bin/bash
# Stands for the pipeline: reads its order, tells a run with a step and a run inside it.
read -r order
say() { printf '%s\n' "$1"; }
say '{"event": "ready", "pid": 1}'
say '{"event": "run_began", "run": 1, "parent": null, "pipeline": "run-all", "arguments": [], "trigger": "manual"}'
say '{"event": "run_began", "run": 2, "parent": 1, "pipeline": "extract", "arguments": [], "trigger": "run-all"}'
say '{"event": "step_began", "step": 1, "run": 2, "name": "candidates", "detail": ""}'
say '{"event": "log", "level": 20, "logger": "dataflows.source.archive", "step": "candidates", "message": "probed",
 "fields": {"order_bytes": "'${#order}'"}, "trace": null}' | tr -d '\n'; echo
MIDDLE
say '{"event": "step_ended", "step": 1, "status": "done", "detail": "tuple of 4"}'
say '{"event": "run_ended", "run": 2, "status": "done", "result": "landed", "error": null, "snapshots": ["e1"]}'
say '{"event": "run_ended", "run": 1, "status": "done", "result": "landed 2021-08", "error": null, "snapshots": ["e1"]}'
exit 0
"""


class WorkerWorld:
    """A provider, its machines, and a data directory to run from."""

    def __init__(self, root: Path, storage: Mapping[str, str]) -> None:
        self.root = root
        self.port = free_port()
        self.storage = storage
        """Where the object storage and the archive are."""
        self.machines: dict[int, SshServer] = {}
        self.hetzner = FakeHetzner(self._boot, self._end)
        self.data_dir = root / "data"
        self.tools = root / "tools"
        self.tools.mkdir(parents=True)
        self.wrong_host_key: str | None = None
        self.user_data: list[str] = []
        self._tool("uv", f'#!/bin/sh\nmkdir -p .venv/bin\nln -sf "{self.tools}/pipeline" .venv/bin/python\n')
        self.pipeline()

    def __enter__(self) -> "WorkerWorld":
        self.hetzner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.hetzner.__exit__(*error)

    def pipeline(self, middle: str = "", *, script: str = QUICK) -> None:
        """What runs on the workers in place of Python: a bash script, with `middle` in its middle."""
        self._tool("pipeline", script.replace("MIDDLE", middle))

    def real_code(self) -> None:
        """Let the workers install what is sent, with the real uv, and run that."""
        for name in ("uv", "pipeline"):
            (self.tools / name).unlink()

    @property
    def environ(self) -> dict[str, str]:
        """The supervisor's environment."""
        return {
            **self.storage,
            "MATERIA_DATA_DIR": str(self.data_dir),
            "HETZNER_TOKEN": TOKEN,
            "HETZNER_API_URL": self.hetzner.url,
            "MATERIA_WORKER_SSH_PORT": str(self.port),
        }

    @property
    def settings(self) -> Settings:
        return Settings.from_environ(self.environ)

    def hire(self, **environ: str) -> Hire:
        workers = WorkerSettings.from_environ({**self.environ, **environ})
        return hire_of(hetzner.provider(self.hetzner.values(), pause_s=0.01), workers, self.settings)

    def spawn(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """`materia` as a process of its own."""
        given = {**os.environ, **self.environ, **environ}
        command = [Path(sys.executable).parent / "materia", *arguments]
        return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def left(self) -> list[str]:
        """What the provider still holds, and processes that still run on machines."""
        held = [each["name"] for each in self.hetzner.state.everything]
        return held + [f"process {pid}" for machine in self.machines.values() for pid in machine.running()]

    def _boot(self, number: int, body: Mapping[str, Any], public_keys: list[str]) -> str:
        given = json.loads(body["user_data"].split("\n", 1)[1])
        self.user_data.append(body["user_data"])
        host_key = self.wrong_host_key or given["ssh_keys"]["ed25519_private"]
        host = f"127.0.0.{number % 250 + 2}"
        environ = {"PATH": f"{self.tools}:{os.environ['PATH']}", "UV_CACHE_DIR": uv_cache_dir(), **_network()}
        root = self.root / f"machine-{number}"
        self.machines[number] = SshServer(root, host, self.port, host_key, public_keys, environ)
        return host

    def _end(self, number: int) -> None:
        self.machines[number].stop()

    def _tool(self, name: str, text: str) -> None:
        path = self.tools / name
        path.write_text(text)
        path.chmod(0o755)


@cache
def uv_cache_dir() -> str:
    """The cache of the uv that runs the tests: a worker's home is empty, and the network slow."""
    return subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()


def _network() -> dict[str, str]:
    """How this machine reaches package registries, which a machine on loopback must know as well."""
    wanted = ("SSL_CERT_FILE", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
    return {name: os.environ[name] for name in wanted if name in os.environ}

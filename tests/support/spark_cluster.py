"""A real Spark cluster: a standalone master and two workers of two cores each, processes of the wheel on loopback."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.support.needs import require_tool
from tests.support.ports import free_port

_TIMEOUT_S = 60.0

# Java starts a dozen times, for a minute at most: its second compiler and its check of every class would not pay.
_QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"

# Tables of a few thousand rows: compiling a query costs more than running it. With the quick compiler alone Java
# reserves 48 MB for code; a plan fills that, and Java then interprets the rest.
_QUICK = f"""
spark.sql.codegen.wholeStage    false
spark.sql.codegen.factoryMode   NO_CODEGEN
spark.sql.adaptive.enabled      false
spark.sql.shuffle.partitions    1
spark.default.parallelism       1
spark.sql.ui.explainMode        simple
spark.sql.maxPlanStringLength   0
spark.executor.memory           512m
spark.driver.memory             2g
spark.driver.host               127.0.0.1
spark.driver.bindAddress        127.0.0.1
spark.driver.extraJavaOptions   {_QUICK_JAVA} -XX:ReservedCodeCacheSize=240m -Xms1500m -Xmn800m -XX:MetaspaceSize=400m
spark.executor.extraJavaOptions {_QUICK_JAVA}
"""


def quick_properties(folder: Path) -> Path:
    """A file of Spark properties for tiny tables."""
    path = folder / "spark.conf"
    path.write_text(_QUICK)
    return path


class SparkCluster:
    """A master and its workers; all of them end when the block does."""

    def __init__(self, folder: Path) -> None:
        require_tool("pyspark", "java")
        self.folder = folder
        self._port, self._web_port = free_port(), free_port()
        self._master: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"spark://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start_master()
        for _ in range(2):
            self.start_worker()
        self._await_workers(2)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_master()
        while self._workers:
            self.kill_worker()

    def start_master(self) -> None:
        ports = ("--port", str(self._port), "--webui-port", str(self._web_port))
        self._master = self._start("org.apache.spark.deploy.master.Master", *ports)
        _await(lambda: self._state() is not None, "the master")

    def start_worker(self) -> None:
        limits = ("--cores", "2", "--memory", "1g", "--webui-port", "0")
        work_dir = self.folder / f"worker-{len(self._workers)}"
        name = "org.apache.spark.deploy.worker.Worker"
        self._workers.append(self._start(name, *limits, "--work-dir", str(work_dir), self.url))

    def kill_worker(self) -> None:
        """Kill the newest worker with its executors, as a machine that loses its power."""
        _kill(self._workers.pop())

    def kill_master(self) -> None:
        if self._master:
            _kill(self._master)
            self._master = None

    def _await_workers(self, count: int) -> None:
        _await(lambda: (self._state() or {}).get("aliveworkers") == count, f"{count} workers")

    def _state(self) -> dict[str, object] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._web_port}/json/", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    def _start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        import pyspark

        home = Path(pyspark.__file__).parent
        with (self.folder / "cluster.log").open("ab") as log:
            return subprocess.Popen(
                [home / "bin" / "spark-class", name, "--host", "127.0.0.1", *arguments],
                env={"PATH": os.environ["PATH"], "SPARK_HOME": str(home), "SPARK_DAEMON_JAVA_OPTS": _QUICK_JAVA},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _kill(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _await(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come within {_TIMEOUT_S:g} s"
        time.sleep(0.1)

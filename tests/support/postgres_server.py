"""A real PostgreSQL server on a free loopback port, with one user and a password that may appear nowhere."""

import os
import shutil
import subprocess
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from dataflows.lakehouse.ducklake import PostgresCatalog
from tests.support.ports import free_port

USER = "materia"
PASSWORD = "c4n4ry-P4ssw0rd-of-the-catalog"
"""Whatever a test provokes, this text may appear nowhere."""

_TIMEOUT_S = 60


def postgres_binary(name: str) -> Path:
    """A program of the server: Debian keeps them off the PATH. Fails when it is not installed."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    assert found, f"{name} is not installed: apt-get install postgresql"
    return Path(found).resolve()


class PostgresServer:
    """A server in a folder of its own, where its user may be; both end when the block does."""

    def __init__(self) -> None:
        self._directory = Path(mkdtemp(prefix="materia-postgres-"))
        self._data = self._directory / "data"
        self._numbers = count(1)
        self.port = free_port()

    def __enter__(self) -> Self:
        password = self._directory / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:  # which PostgreSQL refuses to run as
            for path in (self._directory, password):
                shutil.chown(path, "nobody", "nogroup")
        self._run("initdb", "-A", "scram-sha-256", f"--pwfile={password}", "-U", USER, "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self._directory / "log"), "-o", options, "start")
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(self._directory)

    def new_catalog(self) -> PostgresCatalog:
        """A database that holds nothing yet."""
        name = f"lake_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return PostgresCatalog("127.0.0.1", self.port, name, USER, PASSWORD)

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement; its rows, if it has any."""
        import psycopg2

        connection = psycopg2.connect(host="127.0.0.1", port=self.port, dbname=database, user=USER, password=PASSWORD)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        unprivileged = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        with (self._directory / f"{program}.log").open("ab") as log:
            # To a file: the server would keep a pipe open for as long as it lives.
            subprocess.run(
                [*unprivileged, str(postgres_binary(program)), "-D", str(self._data), *arguments],
                cwd=self._directory,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                stdout=log,
                stderr=log,
                timeout=_TIMEOUT_S,
                check=True,
            )

"""The lakehouse's store: a DuckDB file or a DuckLake, attached under the same name."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dataflows.errors import LakehouseError, LakehouseLockedError
from dataflows.lakehouse.ducklake import CATALOG
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


_LOCKED = re.compile(
    r'Could not set lock on file "(?P<file>[^"]+)": (?:.*?held in (?P<program>.+?) \(PID (?P<pid>\d+)\))?'
)
_COMMAND_CHARACTERS = 80


class LakehouseStore(Protocol):
    """A store of the lakehouse's tables; `str()` of it describes it without secrets."""

    def attach(self, connection: "DuckDBPyConnection", *, read_only: bool, alias: str = CATALOG) -> None:
        """Attach it to a connection; raises LakehouseError when it can't be opened."""
        ...

    def size_bytes(self, connection: "DuckDBPyConnection") -> int:
        """How much disk a copy of all its tables takes at most, where it is attached under its usual name."""
        ...


@dataclass(frozen=True)
class LakehouseFile:
    """One DuckDB file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def state_path(self) -> Path:
        """SQLMesh's state, a database file of its own beside it."""
        return self.path.with_name(f"{self.path.stem}-state.duckdb")

    def attach(self, connection: "DuckDBPyConnection", *, read_only: bool, alias: str = CATALOG) -> None:
        import duckdb

        if read_only and not self.path.exists():
            raise LakehouseError(f"{self} is not there; run `materia pipeline run transform`")
        try:
            connection.execute(f"ATTACH {literal(self.path)} AS {alias}{' (READ_ONLY)' if read_only else ''}")
        except duckdb.Error as error:
            if locked := lock_conflict(str(error)):
                raise LakehouseLockedError(locked) from error
            raise LakehouseError(f"{self} can't be opened: {error}") from error

    def size_bytes(self, connection: "DuckDBPyConnection") -> int:
        return self.path.stat().st_size


def lock_conflict(message: str) -> str | None:
    """Which process has a database file open and what to do, if that is what DuckDB's message says; else None."""
    found = _LOCKED.search(message)
    if found is None:
        return None
    who = "another process"
    if found["pid"]:
        who = f"process {found['pid']} ({_command(found['pid']) or found['program']})"
    return (
        f"{found['file']} is locked: {who} has it open; close it there and run again (to look at the data, "
        "open serving.duckdb instead: it is never locked). Nothing was changed"
    )


def _command(pid: str) -> str | None:
    """The program and first argument of a process; further arguments may contain secrets."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    return " ".join(" ".join(words[:2]).split())[:_COMMAND_CHARACTERS] or None

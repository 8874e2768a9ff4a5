"""Where the lakehouse is: one DuckDB file, or a DuckLake. Whatever it is, it is attached under the same name."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dataflows.ducklake import CATALOG
from dataflows.errors import LakehouseError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class LakehouseStore(Protocol):
    """What holds the lakehouse's tables; `str()` of it names it for a person and shows no secret."""

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

    def attach(self, connection: "DuckDBPyConnection", *, read_only: bool, alias: str = CATALOG) -> None:
        import duckdb

        if read_only and not self.path.exists():
            raise LakehouseError(f"{self} is not there; run `materia pipeline run transform`")
        quoted = str(self.path).replace("'", "''")
        try:
            connection.execute(f"ATTACH '{quoted}' AS {alias}{' (READ_ONLY)' if read_only else ''}")
        except duckdb.Error as error:
            raise LakehouseError(f"{self} can't be opened: {error}; is it open in another program?") from error

    def size_bytes(self, connection: "DuckDBPyConnection") -> int:
        return self.path.stat().st_size

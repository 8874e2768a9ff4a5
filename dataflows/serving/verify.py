"""Verification of a database file in a fresh process, where nothing is cached.

`python -m dataflows.serving.verify PATH` is that process; `verify_in_fresh_process` starts it.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import MateriaError, ServingBrokenError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Verification:
    """What a fresh process read: rows per table of schema `serving`, rows per macro as of today."""

    generation_number: int | None
    """What `serving.generation` says; None in a file without it."""
    row_counts: dict[str, int]
    """Without `generation` itself."""
    macro_row_counts: dict[str, int]


def verify_in_fresh_process(path: Path, expected_row_counts: Mapping[str, int], timeout_s: float) -> Verification:
    """Read every row of `path` in a new Python process, as a reader would; return what it found.

    Raises ServingBrokenError when it can't be read, holds other tables or row counts than expected, or takes
    longer than `timeout_s`.
    """
    command = [sys.executable, "-m", "dataflows.serving.verify", str(path)]
    try:
        # Nothing is inherited: it needs no settings, and should see no secrets.
        child = subprocess.run(command, env={"PYTHONUTF8": "1"}, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ServingBrokenError(f"{path} could not be read within {timeout_s:g} s in a fresh process") from error
    if child.returncode != 0:
        raise ServingBrokenError(
            f"{path} failed in a fresh process (exit {child.returncode}): {child.stderr.strip()[-2000:]}"
        )
    found = Verification(**json.loads(child.stdout))
    expected = {table: rows for table, rows in expected_row_counts.items() if table != "generation"}
    differing = sorted(
        table for table in expected | found.row_counts if expected.get(table) != found.row_counts.get(table)
    )
    if differing:
        table = differing[0]
        raise ServingBrokenError(
            f"{path}: serving.{table} has {found.row_counts.get(table, 'no')} rows in a fresh process, "
            f"{expected.get(table, 'none')} expected ({len(differing)} tables differ)"
        )
    return found


def read_everything(path: Path) -> Verification:
    """Read every column of every row of schema `serving`, and the as-of macros; raises ServingBrokenError."""
    import duckdb

    from dataflows.serving.database import AS_OF_MACROS, open_read_only
    from dataflows.serving.generation_table import read_generation_table

    con = open_read_only(path)
    try:
        facts = read_generation_table(con)
        tables = _names(con, "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'serving'")
        macros = _names(
            con,
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE schema_name = 'serving' AND function_type = 'table_macro'",
        )
        return Verification(
            generation_number=facts.number if facts else None,
            row_counts={
                table: _read(con, f"serving.{_quoted_name(table)}") for table in tables if table != "generation"
            },
            macro_row_counts={
                macro: _read(con, f"serving.{macro}(current_date)") for macro in AS_OF_MACROS if macro in macros
            },
        )
    except duckdb.Error as error:
        raise ServingBrokenError(f"{path}: {error}") from error
    finally:
        con.close()


def _names(con: "DuckDBPyConnection", sql: str) -> list[str]:
    return sorted(name for (name,) in con.execute(sql).fetchall())


def _quoted_name(table: str) -> str:
    """A name as SQL quotes it: what is in the file was not necessarily put there by us."""
    return '"' + table.replace('"', '""') + '"'


def _read(con: "DuckDBPyConnection", relation: str) -> int:
    """How many rows `relation` has, after reading each of their columns (a count alone would read none)."""
    rows, _ = con.execute(f"SELECT count(*), bit_xor(hash(r)) FROM {relation} AS r").fetchone() or (0, None)
    return rows


def main(arguments: list[str]) -> int:
    """Print what is in the file as JSON, or say on standard error what is wrong with it."""
    gc.disable()  # this process imports DuckDB, reads once and ends
    try:
        print(json.dumps(asdict(read_everything(Path(arguments[0])))))
    except MateriaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

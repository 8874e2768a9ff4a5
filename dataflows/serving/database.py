"""Opens a served file so that no SQL can write."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import ServingBrokenError
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

AS_OF_MACROS = ("psd_asof", "psd_asof_coverage")
"""The table macros of schema `serving` that are read when a generation is verified; the others are made of them."""
TABLE_MACROS = (*AS_OF_MACROS, "psd_known", "psd_asof_all", "group_asof", "metric_asof", "estimate_path")
"""All table macros that a generation carries in schema `serving`."""

_LOCKED_DOWN: Mapping[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a table name is never a variable of the calling program
    "temp_directory": "",  # a query too big for its memory fails; it doesn't fill the disk
}


def open_read_only(
    path: Path, *, memory_limit_bytes: int | None = None, threads: int | None = None
) -> "DuckDBPyConnection":
    """Attach the database file `path` read-only, as catalog `materia`, to a fresh in-memory DuckDB.

    A fresh instance for every file, because DuckDB caches one instance per path, and under an alias of its
    own, because a catalog named `serving` would make `serving.fct_psd` ambiguous. The connection can reach no
    other file, and its settings are locked. Raises ServingBrokenError.
    """
    import duckdb

    config = {**_LOCKED_DOWN}
    if memory_limit_bytes is not None:
        config["memory_limit"] = f"{memory_limit_bytes}B"
    if threads is not None:
        config["threads"] = threads
    con = duckdb.connect(":memory:", config=config)
    try:
        con.execute(f"ATTACH {literal(path)} AS materia (READ_ONLY)")
        _use_served_schema(con)
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
    except duckdb.Error as error:
        con.close()
        raise ServingBrokenError(
            f"{path} cannot be opened: {error}; run `materia run-all`, which publishes again"
        ) from error
    return con


def new_cursor(con: "DuckDBPyConnection") -> "DuckDBPyConnection":
    """Return another cursor on the same database and repeat `USE`, which cursors don't inherit (90 µs)."""
    cursor = con.cursor()
    _use_served_schema(cursor)
    return cursor


def _use_served_schema(con: "DuckDBPyConnection") -> None:
    """Let `fct_psd` and `serving.fct_psd` mean the same; a file of another making may lack that schema."""
    import duckdb

    try:
        con.execute("USE materia.serving")
    except duckdb.CatalogException:
        con.execute("USE materia")

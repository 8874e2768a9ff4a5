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
MACROS: Mapping[str, str] = {
    "psd_asof(day)": "The facts as they stood on a day, columns as in fct_psd, whether each is certain, and its source "
    "(psd; wasde: rounded to 10, of a report between two landed releases)",
    "psd_known(day)": "The certain ones of psd_asof(day)",
    "psd_asof_all(day)": "Every fact with its standing on a day: certain, uncertain, unknown (no value: no landed "
    "release is old enough) or absent (no value: the balance sheet did not have it)",
    "psd_asof_coverage(day)": "Per commodity, how many facts are certain, uncertain, unknown and absent on a day",
    "group_asof(group_code, day)": "Sums of a group of countries as of a day, NULL for all groups; columns as in "
    "agg_group_balance without its derived rates, and certain. value is NULL while a member or one of its facts is "
    "missing, partial_value the sum of the others, countries_missing how many lack",
    "metric_asof(day)": "fct_metric as of a day, and certain. A figure that lacks an unknown fact is NULL. "
    "certain_in_year covers the market year itself, certain_history the market years it is compared with",
    "estimate_path(commodity, country_or_group, market_year, attribute)": "An estimate release by release: value, "
    "change, change_pct, and months from the release to the end of the market year (the United States', where WASDE "
    "prints it). Codes or names",
    "convert(value, unit, commodity_code, to_unit)": "A value in another unit of dim_unit, by id or name. NULL where "
    "there is no conversion, as of coffee to bushels; an unknown name is an error",
}
"""What a generation carries in schema `serving` beside its tables. The first seven are table macros."""
TABLE_MACROS = tuple(call.partition("(")[0] for call in MACROS if not call.startswith("convert"))

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

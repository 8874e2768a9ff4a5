"""A small DuckDB file, for tests that need one that is intact and not what is in it."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory


@cache
def small_database() -> bytes:
    """Its bytes: a table of numbers in several blocks."""
    import duckdb

    with TemporaryDirectory() as folder:
        path = Path(folder) / "small.duckdb"
        with duckdb.connect(str(path)) as connection:
            connection.execute("CREATE TABLE fct_psd AS SELECT random() AS value FROM range(100_000)")
        return path.read_bytes()

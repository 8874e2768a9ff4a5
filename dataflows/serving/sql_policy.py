"""The SQL policy for user queries: one read-only statement.

Locked settings keep DuckDB away from other files, but not from all harm: a plain SELECT can still turn on
logging to a file (`FROM enable_logging(...)`), after which every query of the reader fails and the process
aborts at its end (measured, DuckDB 1.5.5). So a query is judged by DuckDB's own syntax tree, and calls only
table functions known to be harmless.
"""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dataflows.errors import QueryError, QueryRefusedError
from dataflows.serving.database import TABLE_MACROS
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Nested comments are not handled: only DuckDB determines where they end.
_GAP = r"(?:[\s\ufeff]|--[^\r\n]*(?=[\r\n])|/\*(?:(?!/\*|\*/).)*\*/)*"
_OPTION = rf"(?:ANALYZE|FORMAT\b{_GAP}(?:\w+|'\w+'))"
_EXPLAIN = re.compile(
    rf"{_GAP}EXPLAIN\b(?:{_GAP}ANALYZE\b|{_GAP}\({_GAP}{_OPTION}(?:{_GAP},{_GAP}{_OPTION})*{_GAP}\))?",
    re.IGNORECASE | re.DOTALL,
)
_CATALOG_FUNCTIONS = tuple(
    f"duckdb_{kind}"
    for kind in (
        *("columns", "constraints", "databases", "dependencies", "extensions", "functions", "indexes"),
        *("keywords", "memory", "schemas", "sequences", "settings", "tables", "types", "views"),
    )
)
_HARMLESS_FUNCTIONS = frozenset(
    (
        *("generate_series", "range", "repeat", "repeat_row", "unnest", "json_each", "json_tree"),
        *("histogram", "histogram_values", "summary", "icu_calendar_names", "pg_timezone_names"),
        *(
            "pragma_database_size",
            "pragma_show",
            "pragma_storage_info",
            "pragma_table_info",
            "pragma_version",
        ),
        *_CATALOG_FUNCTIONS,
        *TABLE_MACROS,
    )
)
_ADVICE = "only one SELECT, EXPLAIN, DESCRIBE, SHOW or SUMMARIZE is run here"


def check_query(con: "DuckDBPyConnection", sql: str) -> None:
    """Raise QueryRefusedError unless `sql` is one statement that only reads, QueryError when it isn't SQL.

    `con` parses it and runs nothing of it; takes about half a millisecond. An interrupt or a failed database
    raises DuckDB's error.
    """
    if "\0" in sql:
        raise QueryRefusedError("the query contains a NUL character; remove it")
    explain = _EXPLAIN.match(sql)
    tree = _syntax_tree(con, sql[explain.end() :] if explain else sql)
    statements = tree["statements"]
    if len(statements) != 1:
        raise QueryRefusedError(f"{len(statements)} statements found; {_ADVICE}")
    for function in _table_functions(statements):
        # A macro of the served file was published with it; DuckDB's own functions live in other schemas.
        name = function["function_name"].lower()
        if function["schema"] != "serving" and name not in _HARMLESS_FUNCTIONS:
            raise QueryRefusedError(f"the table function {name} may not be called; {_ADVICE}")


def is_explain(sql: str) -> bool:
    """Whether a statement is an EXPLAIN, also behind comments."""
    return _EXPLAIN.match(sql) is not None


def _syntax_tree(con: "DuckDBPyConnection", sql: str) -> dict[str, Any]:
    import duckdb

    # Not as a parameter: the first parameter a process binds makes DuckDB import pandas, which takes seconds.
    try:
        row = con.execute(f"SELECT json_serialize_sql({literal(sql)})").fetchone()
        tree = json.loads(row[0]) if row else {"error": True}
    except (duckdb.InterruptException, duckdb.FatalException):
        raise
    except (duckdb.Error, RecursionError, ValueError) as error:
        raise QueryRefusedError(f"the query cannot be checked ({error}); write it more simply") from error
    if not tree["error"]:
        return tree
    if tree.get("error_type") == "not implemented":
        raise QueryRefusedError(f"this statement is not a plain query; {_ADVICE} (and PIVOT with its values: IN (...))")
    raise QueryError(tree.get("error_message", "not a query"))


def _table_functions(tree: Any) -> Iterator[dict[str, Any]]:
    """Every call of a table function anywhere in a syntax tree."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if node.get("type") == "TABLE_FUNCTION":
                yield node["function"]
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)

"""The names that the editor completes: served tables, columns, as-of macros and SQL keywords."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

_KEYWORDS: Final = """
SELECT FROM WHERE GROUP ORDER BY HAVING LIMIT JOIN LEFT INNER USING ON AS AND OR NOT IN IS NULL LIKE ILIKE
BETWEEN CASE WHEN THEN ELSE END WITH UNION ALL EXCEPT DISTINCT DATE CAST INTERVAL FILTER OVER PARTITION QUALIFY
PIVOT UNPIVOT DESCRIBE SUMMARIZE EXPLAIN ASC DESC count sum avg min max round median coalesce date_trunc
row_number lag lead greatest least
"""
_MOST = 40
_COLUMNS = """
SELECT table_name, list(column_name ORDER BY column_index) AS columns
FROM duckdb_columns() WHERE schema_name = 'serving' GROUP BY table_name ORDER BY table_name
"""
_MACROS = """
SELECT DISTINCT function_name, parameters
FROM duckdb_functions() WHERE schema_name = 'serving' AND function_type = 'table_macro' ORDER BY function_name
"""
_ALIAS = re.compile(r"\b(?:from|join)\s+([\w.]+)(?:\s*\([^)]*\))?\s+(?:as\s+)?(\w+)", re.IGNORECASE)

Item = tuple[tuple[str, str], str]
"""((label, kind), text to insert)."""


@dataclass(frozen=True)
class Catalog:
    """The names of one generation."""

    tables: Mapping[str, tuple[str, ...]]
    """The columns of every table."""
    macros: tuple[str, ...] = ()
    """With their parameters: `psd_asof(day)`."""

    def words(self, prefix: str) -> list[Item]:
        """Return the completions of a word, served names first."""
        names: dict[str, Item] = {}
        for macro in self.macros:
            names.setdefault(macro, ((macro, "macro"), f"serving.{macro.partition('(')[0]}("))
        for table in self.tables:
            names.setdefault(table, ((table, "table"), f"serving.{table}"))
        for table, columns in self.tables.items():
            for column in columns:
                names.setdefault(column, ((column, table), column))
        names.setdefault("serving", (("serving", "schema"), "serving"))
        for keyword in _KEYWORDS.split():
            names.setdefault(keyword, ((keyword, "sql"), keyword))
        return _matching(prefix, list(names.values()))

    def members(self, prefix: str, text: str) -> list[Item]:
        """Return completions after a dot: tables and macros of `serving.`, columns of a table or alias in `text`."""
        owner, _, start = prefix.rpartition(".")
        if owner.lower() == "serving":
            items = [((table, "table"), f"{owner}.{table}") for table in self.tables]
            items += [((macro, "macro"), f"{owner}.{macro.partition('(')[0]}(") for macro in self.macros]
            return _matching(start, items)
        table = owner if owner in self.tables else _aliases(text).get(owner.lower(), "")
        columns = self.tables.get("fct_psd" if table == "psd_asof" else table, ())
        return _matching(start, [((column, table), f"{owner}.{column}") for column in columns])


def read_catalog(reader: "ServingReader") -> Catalog:
    """Read the names of the newest generation; raises ServingError."""
    tables = reader.query(_COLUMNS).table.to_pylist()
    macros = reader.query(_MACROS).table.to_pylist()
    return Catalog(
        tables={row["table_name"]: tuple(row["columns"]) for row in tables},
        macros=tuple(f"{row['function_name']}({', '.join(row['parameters'])})" for row in macros),
    )


def _matching(prefix: str, items: list[Item]) -> list[Item]:
    wanted = prefix.lower()
    starting = [item for item in items if item[0][0].lower().startswith(wanted)]
    inside = [item for item in items if wanted and wanted in item[0][0].lower() and item not in starting]
    return (starting + inside)[:_MOST]


def _aliases(text: str) -> dict[str, str]:
    return {alias.lower(): name.rpartition(".")[2] for name, alias in _ALIAS.findall(text)}

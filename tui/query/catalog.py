"""The served tables and as-of macros with their columns, and the completions of a word in the editor."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dataflows.errors import MateriaError

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

_KEYWORDS: Final = """
SELECT FROM WHERE GROUP ORDER BY HAVING LIMIT JOIN LEFT INNER USING ON AS AND OR NOT IN IS NULL LIKE ILIKE
BETWEEN CASE WHEN THEN ELSE END WITH UNION ALL EXCEPT DISTINCT DATE CAST INTERVAL FILTER OVER PARTITION QUALIFY
PIVOT UNPIVOT DESCRIBE SUMMARIZE EXPLAIN ASC DESC count sum avg min max round median coalesce date_trunc
row_number lag lead greatest least
"""
_MOST = 40
_LONGEST = 20
"""Longer parameters would make the library cut every line of the list."""
_TABLES = """
SELECT t.table_name AS name, t.comment, estimated_size AS rows, '' AS parameters, list({
  'name': column_name, 'type': data_type, 'comment': c.comment} ORDER BY column_index) AS columns
FROM duckdb_tables() AS t JOIN duckdb_columns() AS c USING (database_name, schema_name, table_name)
WHERE schema_name = 'serving' GROUP BY ALL ORDER BY name
"""
_MACROS = """
SELECT DISTINCT function_name AS name, comment, NULL::BIGINT AS rows,
  '(' || array_to_string(parameters, ', ') || ')' AS parameters
FROM duckdb_functions() WHERE schema_name = 'serving' AND function_type = 'table_macro' ORDER BY name
"""
_HAS_DEFAULT = "checked_on"
"""The parameter of the as-of macros that has a default."""
_NOT_ALIASES = "on|using|where|join|left|inner|full|cross|group|order|limit|having|union|semi|anti|asof"
_SOURCE = re.compile(
    rf"(?:\bfrom|\bjoin|,)\s+(?:serving\.)?(\w+)(?:\s*\([^)]*\))?(?:\s+(?:as\s+)?(?!(?:{_NOT_ALIASES})\b)(\w+))?",
    re.IGNORECASE,
)

Item = tuple[tuple[str, str], str]
"""((label, kind), text to insert)."""


@dataclass(frozen=True)
class Column:
    """A column of a table or of a macro's answer."""

    name: str
    type: str
    comment: str | None = None


@dataclass(frozen=True)
class Relation:
    """A served table, or a table macro."""

    name: str
    columns: tuple[Column, ...] = ()
    comment: str | None = None
    rows: int | None = None
    """None for a macro."""
    parameters: str = ""
    """Of a macro: `(day, checked_on)`."""

    @property
    def label(self) -> tuple[str, str]:
        parameters = self.parameters if len(self.parameters) <= _LONGEST else "(…)"
        return f"{self.name}{parameters}", "macro" if parameters else "table"

    @property
    def completion(self) -> str:
        """The name as a query starts to write it, without the schema."""
        return f"{self.name}(" if self.parameters else self.name


@dataclass(frozen=True)
class Catalog:
    """The tables and macros of one generation."""

    relations: Mapping[str, Relation] = field(default_factory=dict)

    def words(self, prefix: str, text: str) -> list[Item]:
        """Return the completions of a word: the columns of the tables in the FROM clause, then served names.

        Columns of other tables are offered only while `text` names no table.
        """
        sources = list(self._sources(text).values())
        names: dict[str, Item] = {}
        for column in _columns(sources):
            names.setdefault(column.name, ((column.name, column.type), column.name))
        for relation in sorted(self.relations.values(), key=lambda each: not each.parameters):
            names.setdefault(relation.name, (relation.label, f"serving.{relation.completion}"))
        for column in _columns([] if sources else self.relations.values()):
            names.setdefault(column.name, ((column.name, column.type), column.name))
        names.setdefault("serving", (("serving", "schema"), "serving"))
        for keyword in _KEYWORDS.split():
            names.setdefault(keyword, ((keyword, "sql"), keyword))
        return _matching(prefix, list(names.values()))

    def members(self, prefix: str, text: str) -> list[Item]:
        """Return completions after a dot: tables and macros of `serving.`, columns of a table or alias in `text`."""
        owner, _, start = prefix.rpartition(".")
        if owner.lower() == "serving":
            ordered = sorted(self.relations.values(), key=lambda each: bool(each.parameters))
            return _matching(start, [(each.label, f"{owner}.{each.completion}") for each in ordered])
        relation = self._sources(text).get(owner.lower()) or self.relations.get(owner)
        columns = relation.columns if relation else ()
        return _matching(start, [((each.name, each.type), f"{owner}.{each.name}") for each in columns])

    def _sources(self, text: str) -> dict[str, Relation]:
        """Return the tables and macros that `text` reads, by name and by alias in lower case."""
        found: dict[str, Relation] = {}
        for name, alias in _SOURCE.findall(text):
            if relation := self.relations.get(name.lower()):
                found[(alias or name).lower()] = relation
        return found


def read_catalog(reader: "ServingReader") -> Catalog:
    """Read the names of the newest generation; raises ServingError."""
    rows = reader.query(_TABLES).table.to_pylist()
    rows += [row | {"columns": _described(reader, row)} for row in reader.query(_MACROS).table.to_pylist()]
    relations = (Relation(**row | {"columns": tuple(Column(**each) for each in row["columns"])}) for row in rows)
    return Catalog({relation.name: relation for relation in relations})


def _described(reader: "ServingReader", macro: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns of a macro's answer; none where its tables are missing."""
    parameters = [each for each in macro["parameters"].strip("()").split(", ") if each != _HAS_DEFAULT]
    try:
        found = reader.query(f"DESCRIBE FROM serving.{macro['name']}({', '.join(['NULL'] * len(parameters))})")
    except MateriaError:
        return []
    return [{"name": row["column_name"], "type": row["column_type"]} for row in found.table.to_pylist()]


def _columns(relations: Iterable[Relation]) -> Iterable[Column]:
    return (column for relation in relations for column in relation.columns)


def _matching(prefix: str, items: list[Item]) -> list[Item]:
    wanted = prefix.lower()
    starting = [item for item in items if item[0][0].lower().startswith(wanted)]
    inside = [item for item in items if wanted and wanted in item[0][0].lower() and item not in starting]
    return (starting + inside)[:_MOST]

"""Wraps a user's query to sort and filter its result in DuckDB, and formats SQL."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dataflows.sql_text import identifier


@dataclass(frozen=True)
class View:
    """The sort order and filter of a result; an empty view is the query itself."""

    sort_column: str | None = None
    descending: bool = False
    condition: str = ""
    """A SQL condition on the result's columns."""

    def sorted_by(self, column: str) -> "View":
        """Return the next view in the cycle ascending, descending, unsorted."""
        if self.sort_column != column:
            return replace(self, sort_column=column, descending=False)
        return replace(self, descending=True) if not self.descending else replace(self, sort_column=None)


def strip_statement(sql: str) -> str:
    """Strip trailing white space and semicolons from a statement."""
    return sql.strip().rstrip("; \t\r\n")


def wrap_in_view(sql: str, view: View) -> str:
    """Return the SQL for `sql` in `view`. The sandbox checks later whether it is allowed."""
    from dataflows.serving.sql_policy import is_explain

    statement = strip_statement(sql)
    if view == View() or is_explain(statement):
        return statement
    # On separate lines, because the query or the condition may end in a comment.
    text = f"SELECT * FROM (\n{statement}\n) AS result"
    if view.condition.strip():
        text += f"\nWHERE (\n{view.condition}\n)"
    if view.sort_column is not None:
        direction = "DESC" if view.descending else "ASC"
        text += f"\nORDER BY {identifier(view.sort_column)} {direction} NULLS LAST"
    return text


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return unique column names as DuckDB assigns them in a subquery: a second `a` becomes `a_1`."""
    used: dict[str, str] = {}
    for name in names:
        numbered = (f"{name}_{n}" for n in itertools.count(1))
        free = next(each for each in itertools.chain([name], numbered) if each.lower() not in used)
        used[free.lower()] = free
    return tuple(used.values())


def format_sql(sql: str) -> str:
    """Format `sql` with sqlglot. Raises ValueError when it cannot be parsed. The first call takes half a second."""
    import sqlglot

    try:
        return ";\n".join(sqlglot.transpile(sql, read="duckdb", write="duckdb", pretty=True))
    except sqlglot.errors.SqlglotError as error:
        raise ValueError(str(error).splitlines()[0]) from error

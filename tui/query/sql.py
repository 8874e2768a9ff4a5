"""A person's SQL, seen sorted and filtered: the query wrapped in one of ours, so that DuckDB does the work."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dataflows.sql_text import identifier


@dataclass(frozen=True)
class View:
    """How a result is looked at; the empty view is the query as typed."""

    sort_column: str | None = None
    descending: bool = False
    condition: str = ""
    """A SQL condition on the result's columns."""

    def sorted_by(self, column: str) -> "View":
        """The next of ascending, descending, unsorted, as when a column's header is chosen again."""
        if self.sort_column != column:
            return replace(self, sort_column=column, descending=False)
        return replace(self, descending=True) if not self.descending else replace(self, sort_column=None)


def bare(sql: str) -> str:
    """The statement without the white space and semicolons at its end."""
    return sql.strip().rstrip("; \t\r\n")


def shaped(sql: str, view: View) -> str:
    """The text to run for `sql` seen through `view`. What it may do is judged later, by the reader's jail."""
    from dataflows.serving.sql_policy import is_explain

    statement = bare(sql)
    if view == View() or is_explain(statement):
        return statement
    # On lines of their own: the query or the condition may end in a comment.
    text = f"SELECT * FROM (\n{statement}\n) AS result"
    if view.condition.strip():
        text += f"\nWHERE (\n{view.condition}\n)"
    if view.sort_column is not None:
        direction = "DESC" if view.descending else "ASC"
        text += f"\nORDER BY {identifier(view.sort_column)} {direction} NULLS LAST"
    return text


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names of a result's columns as DuckDB tells them apart where it is wrapped: a second `a` is `a_1`."""
    told: dict[str, str] = {}
    for name in names:
        numbered = (f"{name}_{n}" for n in itertools.count(1))
        free = next(each for each in itertools.chain([name], numbered) if each.lower() not in told)
        told[free.lower()] = free
    return tuple(told.values())


def formatted(sql: str) -> str:
    """`sql` laid out by sqlglot; raises ValueError when it can't be parsed. Takes half a second the first time."""
    import sqlglot

    try:
        return ";\n".join(sqlglot.transpile(sql, read="duckdb", write="duckdb", pretty=True))
    except sqlglot.errors.SqlglotError as error:
        raise ValueError(str(error).splitlines()[0]) from error

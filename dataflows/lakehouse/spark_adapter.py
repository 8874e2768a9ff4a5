"""SQLMesh's adapter of Spark, but that the days of a plan are replaced whole. Only SQLMesh's process imports it.

Analysing a query costs Spark's driver up to seconds, however small the tables are: nested views are resolved each time.
SQLMesh has queries analysed that need not be, so two kinds of them are left out here.
"""

from typing import Any

from sqlglot import exp
from sqlmesh.core.engine_adapter import EngineAdapter, SparkEngineAdapter


class DayByDayAdapter(SparkEngineAdapter):
    """Spark overwrites the partitions for which a query gives rows. Others of the planned days would stay."""

    # Seeds are written as VALUES: a data frame of Python needs Python on every executor, or Arrow, and Arrow Java 17.
    _df_to_source_queries = EngineAdapter._df_to_source_queries

    def ctas(
        self,
        table_name: Any,
        query_or_df: Any,
        target_columns_to_types: Any = None,
        exists: bool = True,
        table_description: Any = None,
        column_descriptions: Any = None,
        source_columns: Any = None,
        **kwargs: Any,
    ) -> None:
        """Create an empty table from the types that the query casts its columns to.

        SQLMesh knows no types of a query that it did not optimize, and runs it with `LIMIT 0` to learn them.
        """
        described = {"table_description": table_description, "column_descriptions": column_descriptions, **kwargs}
        types = _cast_types(query_or_df) if _is_empty(query_or_df) else None
        if types is None:
            super().ctas(
                table_name, query_or_df, target_columns_to_types, exists, source_columns=source_columns, **described
            )
        else:
            self.create_table(table_name, types, exists=exists, **described)

    def create_view(self, view_name: Any, query_or_df: Any, *args: Any, **kwargs: Any) -> None:
        """Create a view, unless it is there with the same text: SQLMesh replaces every view whenever it computes days.

        The text has the versions of the tables in their names. Only a `SELECT *` could have other columns by now.
        """
        if not isinstance(query_or_df, exp.Query) or query_or_df.is_star or not self._has_text(view_name, query_or_df):
            super().create_view(view_name, query_or_df, *args, **kwargs)

    def _has_text(self, view_name: Any, query: exp.Query) -> bool:
        view = exp.to_table(view_name)
        if self.get_data_object(view) is None:
            return False
        described = self.fetchall(f"DESCRIBE TABLE EXTENDED {view.sql(dialect=self.dialect, identify=True)}")
        texts = {name: text for name, text, _ in described}
        return texts.get("View Original Text") == self._to_sql(query)

    def _insert_overwrite_by_time_partition(
        self, table_name: Any, source_queries: Any, target_columns_to_types: Any, where: Any, **kwargs: Any
    ) -> None:
        first, last = (where.args[end].find(exp.Literal).this[:10] for end in ("low", "high"))
        table = exp.to_table(table_name).sql(dialect=self.dialect)
        for (partition,) in self.fetchall(f"SHOW PARTITIONS {table}"):
            column, _, day = partition.partition("=")
            if first <= day <= last:
                self.execute(f"ALTER TABLE {table} DROP IF EXISTS PARTITION ({column} = '{day}')")
        super()._insert_overwrite_by_time_partition(
            table_name, source_queries, target_columns_to_types, where, **kwargs
        )


def _is_empty(query_or_df: Any) -> bool:
    """Whether a query is one that SQLMesh made empty."""
    limit = query_or_df.args.get("limit") if isinstance(query_or_df, exp.Query) else None
    return limit is not None and limit.expression == exp.Literal.number(0)


def _cast_types(query: exp.Query) -> dict[str, exp.DataType] | None:
    """The type of each column of a query; None where a column is not cast to one."""
    columns = {each.output_name: each.unalias() for each in query.selects}
    types = {name: column.to for name, column in columns.items() if name and isinstance(column, exp.Cast)}
    return types if len(types) == len(query.selects) else None

"""SQLMesh's adapter of Spark, but that the days of a plan are replaced whole. Only SQLMesh's process imports it."""

from typing import Any

from sqlglot import exp
from sqlmesh.core.engine_adapter import EngineAdapter, SparkEngineAdapter


class DayByDayAdapter(SparkEngineAdapter):
    """Spark overwrites the partitions for which a query gives rows. Others of the planned days would stay."""

    # Seeds are written as VALUES: a data frame of Python needs Python on every executor, or Arrow, and Arrow Java 17.
    _df_to_source_queries = EngineAdapter._df_to_source_queries

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

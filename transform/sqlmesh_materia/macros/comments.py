"""What the models say about the serving tables, as a view: a DuckLake keeps no comments on the columns of views."""

from sqlglot import exp
from sqlmesh import macro

from .asof import serving_schema


@macro()
def create_column_comment(evaluator):
    """`serving.column_comment`: a row per described column, and one per table with no column's name."""
    schema = serving_schema(evaluator)
    rows = [
        (model.view_name, column, comment)
        for model in (snapshot.model for snapshot in evaluator.snapshots.values() if snapshot.is_model)
        if model.schema_name == "serving"
        for column, comment in ((None, model.description), *model.column_descriptions.items())
        if comment
    ]
    catalog = "spark_catalog" if evaluator.gateway == "spark" else "lakehouse"
    values = ", ".join(f"({', '.join(map(_literal, row))})" for row in sorted(rows, key=str))
    return (
        f"CREATE OR REPLACE VIEW {catalog}.{schema}.column_comment AS"
        f" SELECT table_name, column_name, comment FROM (VALUES {values}) AS comments(table_name, column_name, comment)"
    )


def _literal(text):
    return "NULL" if text is None else exp.Literal.string(text).sql(dialect="duckdb")

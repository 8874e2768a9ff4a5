"""Paths of the landing, relative to it, so that a lakehouse finds the landing of the machine that it is on."""

from sqlglot import exp
from sqlmesh import macro


@macro()
def landing_rows(evaluator, kind):
    """The rows of every landed file of a kind (`psd`, `wasde`): Parquet files, on Spark an external table over them.

    The path is relative: views store it, and DuckDB's `file_search_path` (in config.py) completes it.
    """
    if evaluator.gateway == "spark":
        return exp.to_table(f"landing.{kind.name}_rows")
    folder = evaluator.var("dataset") if kind.name == "psd" else kind.name
    return f"READ_PARQUET('raw/{folder}/*/*/*.parquet', hive_partitioning = TRUE)"


@macro()
def landing_markers(evaluator, kind):
    """The commit marker of every landed file of a kind, a row each, as text in `content`."""
    if evaluator.gateway == "spark":
        return exp.to_table(f"landing.{kind.name}_markers")
    return f"READ_TEXT('{kind.name}/*.json')"


@macro()
def dataset(evaluator):
    """The one dataset that this lakehouse serves, such as `psd_alldata`."""
    return exp.Literal.string(evaluator.var("dataset"))


REGIONAL = ("psd_eu_area_prod", "psd_russiabreakdown_area_prod")
"""Datasets whose countries are not the world."""


@macro()
def covers_world(evaluator):
    """Whether the dataset that this lakehouse serves has all countries."""
    return exp.Boolean(this=evaluator.var("dataset") not in REGIONAL)

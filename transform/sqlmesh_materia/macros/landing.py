"""Where the landing is: named relative to it, so that a lakehouse finds the landing of whatever machine it is on."""

from sqlglot import exp
from sqlmesh import macro


@macro()
def landing_glob(evaluator, pattern):
    """The files of the landing that match `pattern`, in which `{dataset}` is the one this lakehouse serves.

    The path is relative: views store it, and DuckDB's `file_search_path` (in config.py) completes it.
    """
    return exp.Literal.string(pattern.name.format(dataset=evaluator.var("dataset")))


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

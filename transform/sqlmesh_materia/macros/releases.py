"""When the next release may come, where USDA's calendar does not list it."""

from pathlib import Path

from sqlglot import exp
from sqlmesh import macro

EARLIEST_DAY = 8
"""The earliest day of a month on which USDA has released WASDE since 2009; later days would make certain what may have
been revised. The four earlier days of 2000 to 2008 are listed in the calendar."""


@macro()
def earliest_release_day(evaluator, day):
    """The first EARLIEST_DAY of a month after `day`."""
    usual = f"INTERVAL '{EARLIEST_DAY - 1}' DAY"
    this_month, next_month = f"DATE_TRUNC('month', {day})", f"DATE_TRUNC('month', {day}) + INTERVAL '1' MONTH"
    return f"(CASE WHEN {day} < {this_month} + {usual} THEN {this_month} ELSE {next_month} END + {usual})::DATE"


@macro()
def models_before(evaluator, last):
    """Every model of a release but `last` and those that read it, however indirectly: what `last` has to wait for.

    The models of WASDE reports are not among them: they are views, and exist only where reports are landed.
    """
    texts = {
        f"{path.parent.name}.{path.stem}": path.read_text()
        for path in (Path(__file__).parents[1] / "models").rglob("*.sql")
        if path.parent.name != "wasde"
    }
    after = {last.name}
    while more := {name for name, text in texts.items() if any(each in text for each in after)} - after:
        after |= more
    return exp.Tuple(expressions=[exp.to_table(name) for name in sorted(texts.keys() - after)])

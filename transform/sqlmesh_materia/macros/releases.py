"""When the next release may come, where USDA's calendar does not list it."""

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

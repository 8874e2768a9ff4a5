"""Parses the day that a person types: a date, a month, a year, or one relative to today."""

import re
from calendar import monthrange
from datetime import date, timedelta
from typing import Final

from dataflows.errors import SettingsError

FORMS: Final = "2025-06-30, 2025-06 or 2025 (its last day), today, yesterday, -10d, -2w, -3m or -1y"
_BACK: Final = re.compile(r"-([0-9]{1,5})([dwmy])")
_DATE: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")


def parse_day(text: str, today: date) -> date:
    """Return the day that `text` names; a month or year that is not over yet is `today`.

    `-1m` and `-1y` are the same day of an earlier month, or its last day if it is shorter. Raises SettingsError.
    """
    given = text.strip().lower()
    try:
        return _parse(given, today)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{text.strip()!r} is not a day; write it as {FORMS}") from error


def _parse(given: str, today: date) -> date:
    if given in ("today", "yesterday"):
        return today - timedelta(days=given == "yesterday")
    if back := _BACK.fullmatch(given):
        count, unit = int(back[1]), back[2]
        if unit in "dw":
            return today - timedelta(days=count * (7 if unit == "w" else 1))
        months = today.year * 12 + today.month - 1 - count * (12 if unit == "y" else 1)
        last = _last_day(months)
        return last.replace(day=min(today.day, last.day))
    if not (named := _DATE.fullmatch(given)):
        raise ValueError(given)
    year, month, day = named.groups()
    if day:
        return date(int(year), int(month), int(day))
    first, last = date(int(year), int(month or 1), 1), _last_day(int(year) * 12 + int(month or 12) - 1)
    return min(last, today) if first <= today else last


def _last_day(months: int) -> date:
    """Return the last day of a month, counted from the year 0."""
    year, month = months // 12, months % 12 + 1
    return date(year, month, monthrange(year, month)[1])

"""A typed day: dates, months, years, and days relative to today."""

from datetime import date

import pytest

from dataflows.errors import SettingsError
from ops.host.days import parse_day

TODAY = date(2024, 3, 31)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-29", date(2024, 2, 29)),
        (" Yesterday ", date(2024, 3, 30)),
        ("today", TODAY),
        ("2023-02", date(2023, 2, 28)),
        ("2024-03", TODAY),
        ("2023", date(2023, 12, 31)),
        ("2024", TODAY),
        ("2024-04", date(2024, 4, 30)),
        ("-10d", date(2024, 3, 21)),
        ("-2w", date(2024, 3, 17)),
        ("-1m", date(2024, 2, 29)),
        ("-3m", date(2023, 12, 31)),
        ("-1y", date(2023, 3, 31)),
        ("-13m", date(2023, 2, 28)),
    ],
)
def test_a_day_is_a_date_a_month_a_year_or_relative_to_today(text: str, expected: date) -> None:
    assert parse_day(text, TODAY) == expected


@pytest.mark.parametrize("text", ["", "2023-02-29", "2023-13", "-1", "-1q", "-99999y", "-99999m", "0000", "2023-2"])
def test_a_text_that_is_no_day_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a day; write it as 2025-06-30, 2025-06"):
        parse_day(text, TODAY)


def test_a_month_shorter_than_today_s_day_ends_at_its_last_day() -> None:
    assert parse_day("-1y", date(2024, 2, 29)) == date(2023, 2, 28)

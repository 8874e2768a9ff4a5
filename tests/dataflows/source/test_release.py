from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.errors import SettingsError
from dataflows.source.release import Month, candidate_releases
from dataflows.source.release_dates import Evidence, date_release, last_modified_time, usda_release_days

months = st.builds(Month, st.integers(1000, 8000), st.integers(1, 12))


@given(months, st.integers(-3000, 3000))
def test_going_back_and_forth_ends_where_it_began(month, count):
    assert month.back(count).back(-count) == month
    assert (month.back(count) < month) == (count > 0)


@given(months, st.integers(0, 40))
def test_a_range_of_months_holds_each_once_in_order(first, count):
    found = list(first.through(first.back(-count)))
    assert found == sorted(set(found))
    assert len(found) == count + 1
    assert (found[0], found[-1]) == (first, first.back(-count))


@given(months)
def test_a_month_reads_what_it_writes(month):
    assert Month.parse(str(month)) == month == Month.of(month.first_day())


@given(st.text(max_size=10))
def test_any_other_text_is_a_settings_error(text):
    try:
        month = Month.parse(text)
    except SettingsError:
        return
    assert str(month) == text and month.first_day() >= date.min


@pytest.mark.parametrize("text", ["2025-13", "2025-00", "0000-05", "2025-1", "25-01", "2025/01", "\xb2025-01", ""])
def test_an_invalid_month_is_refused(text):
    with pytest.raises(SettingsError, match="write it as YYYY-MM"):
        Month.parse(text)


def test_candidates_go_back_over_the_year():
    releases = candidate_releases("http://x/archives/", "psd_coffee", Month(2026, 2))
    assert [str(release.month) for release in releases] == ["2026-02", "2026-01", "2025-12", "2025-11"]
    assert releases[2].url == "http://x/archives/2025/12/psd_coffee_csv.zip"
    assert releases[0].member == "psd_coffee.csv"


@given(
    st.text(max_size=60)
    | st.from_regex(r"Wed, \d{1,2} Nov \d{1,5} \d\d:\d\d:\d\d( GMT| [+-]\d{4,20})?", fullmatch=True)
)
def test_any_last_modified_can_be_put_in_order(text):
    assert last_modified_time(text).tzinfo is UTC
    assert last_modified_time(text) >= last_modified_time(None) or last_modified_time(text).year < 1970


@pytest.mark.parametrize(
    ("month", "inner", "released_on"),
    [
        (Month(2010, 12), None, date(2010, 12, 10)),
        (Month(2010, 12), datetime(2011, 1, 20), date(2010, 12, 15)),
        (Month(2019, 1), None, date(2019, 1, 12)),
        (Month(2026, 12), None, date(2026, 12, 12)),
    ],
)
def test_a_month_without_a_plausible_date_is_dated_by_usdas_calendar(month, inner, released_on):
    assert date_release(month, Evidence(inner, None, None)).released_on == released_on


def test_every_listed_release_day_is_in_its_month():
    listed = [(month, day) for month in Month(1973, 9).through(Month(2026, 6)) for day in usda_release_days(month)]
    assert len(listed) == 698
    assert all(Month.of(day) == month for month, day in listed)


def test_a_file_of_an_address_without_a_month_is_of_its_newest_stamp():
    stamped = date_release(None, Evidence(datetime(2025, 11, 20, 15, 2), Month(2025, 11), None))
    assert (stamped.month, stamped.released_on) == (Month(2025, 11), date(2025, 11, 20))
    assert date_release(None, Evidence(datetime(2025, 12, 2), None, None)).month == Month(2025, 12)
    assert date_release(None, Evidence(None, None, "never")) is None


@given(months, st.datetimes(min_value=datetime(1980, 1, 1), max_value=datetime(2107, 12, 31)) | st.none(), st.text())
def test_a_later_month_is_released_later_regardless_of_its_file(month, inner, last_modified):
    """Except for the first days of a month, which may belong to the previous release."""
    dating = date_release(month, Evidence(inner, None, last_modified))
    assert dating.month == month
    assert month.first_day() <= dating.released_on < month.back(-1).first_day() + timedelta(days=5)

import re
from datetime import UTC, date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.errors import SettingsError
from dataflows.release import Month, candidate_releases
from dataflows.snapshot import key_of_etag, key_without_etag, last_modified_time

months = st.builds(Month, st.integers(1000, 8000), st.integers(1, 12))
header_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=400)
likely_etag = st.from_regex(r'(W/)?"?[A-Za-z0-9._:/-]{0,130}"?', fullmatch=True)
etags = header_text | likely_etag


def tag(etag: str) -> str:
    """The opaque tag, quotes and blanks around it away: what two ETags must differ in to be two."""
    stripped = etag.strip()
    return stripped[1:-1] if len(stripped) >= 2 and stripped[0] == stripped[-1] == '"' else stripped


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
def test_what_is_no_month_is_refused(text):
    with pytest.raises(SettingsError, match="write it as YYYY-MM"):
        Month.parse(text)


def test_candidates_go_back_over_the_year():
    releases = candidate_releases("http://x/archives/", "psd_coffee", Month(2026, 2))
    assert [str(release.month) for release in releases] == ["2026-02", "2026-01", "2025-12", "2025-11"]
    assert releases[2].url == "http://x/archives/2025/12/psd_coffee_csv.zip"
    assert releases[0].member == "psd_coffee.csv"


@given(etags)
def test_a_key_is_a_safe_file_name_and_always_the_same(etag):
    key = key_of_etag(etag)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", key)
    assert key_of_etag(etag) == key


@given(etags, etags)
def test_two_etags_never_share_a_key(one, other):
    if tag(one) != tag(other):
        assert key_of_etag(one) != key_of_etag(other)


@given(etags)
def test_no_etag_can_take_the_key_of_another(etag):
    key = key_of_etag(etag)
    if key != tag(etag):
        assert key_of_etag(key) != key
        assert key_of_etag(f'"{key}"') != key


def test_a_safe_tag_is_its_own_key():
    assert key_of_etag('"5f3c2a-1"') == "5f3c2a-1"
    assert key_of_etag('W/"5f3c2a-1"') != "5f3c2a-1"


def test_no_etag_can_take_the_key_of_a_file_without_one():
    key = key_without_etag("Fri, 14 Nov 2025 17:00:00 GMT", 5, "http://x/y.zip")
    assert key is not None and key_of_etag(f'"{key}"') != key
    assert key_without_etag(None, 5, "http://x/y.zip") is None


@given(
    st.text(max_size=60)
    | st.from_regex(r"Wed, \d{1,2} Nov \d{1,5} \d\d:\d\d:\d\d( GMT| [+-]\d{4,20})?", fullmatch=True)
)
def test_any_last_modified_can_be_put_in_order(text):
    assert last_modified_time(text).tzinfo is UTC
    assert last_modified_time(text) >= last_modified_time(None) or last_modified_time(text).year < 1970

"""What the as-of macros answer on each day, on tables of a few rows."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import date

import duckdb
import pytest

from dataflows.serving.asof import asof_macros

WHEAT, COFFEE = "0410000", "0711100"
JUNE = ("2025-06-12", "2025-06-12", "2025-07-11")
"""released_on, shown_from, next_release_due"""
JULY = ("2025-07-11", "2025-07-11", "2025-08-12")
UNSTAMPED = (WHEAT, "US", 2025, "2025-05-01", None, "unstamped")
"""commodity_code, country_code, market_year, uncertain_from, uncertain_to, reason"""

_TABLES = """
CREATE SCHEMA serving;
CREATE TABLE serving.dim_release (released_on DATE, shown_from DATE, next_release_due DATE);
CREATE TABLE serving.dim_commodity AS FROM (VALUES ('0410000', 'Wheat', true, 6), ('0711100', 'Coffee', false, NULL))
  AS t(commodity_code, commodity_name, is_wasde_cycle, market_year_begins);
CREATE TABLE serving.dim_country AS FROM (VALUES ('US', 'United States'), ('CA', 'Canada'), ('MX', 'Mexico'))
  AS t(country_code, country_name);
CREATE TABLE serving.dim_attribute AS FROM (VALUES ('020', 'Beginning Stocks'), ('028', 'Production'),
  ('176', 'Ending Stocks')) AS t(attribute_id, attribute_name);
CREATE TABLE serving.dim_unit AS FROM (VALUES ('08', '(1000 MT)')) AS t(unit_id, unit_name);
CREATE TABLE serving.dim_country_group AS
  SELECT 'WORLD' AS group_code, 'World' AS group_name, NULL::TEXT AS commodity_code, country_code, country_name,
    NULL::SMALLINT AS from_market_year, NULL::SMALLINT AS to_market_year FROM serving.dim_country
  UNION ALL SELECT 'USMCA', 'North America', NULL, country_code, country_name, 2020, NULL FROM serving.dim_country;
CREATE TABLE serving.fct_uncertain_span (commodity_code TEXT, country_code TEXT, market_year SMALLINT,
  uncertain_from DATE, uncertain_to DATE, reason TEXT);
CREATE TABLE serving.fct_psd (valid_from DATE, valid_to DATE, last_seen_on DATE, value DOUBLE, commodity_code TEXT,
  country_code TEXT, market_year SMALLINT, attribute_id TEXT, unit_id TEXT, unit_name TEXT, reported_month DATE,
  market_year_now SMALLINT, commodity_name TEXT, country_name TEXT, attribute_name TEXT);
CREATE TABLE serving.fct_wasde (released_at TIMESTAMP, value DOUBLE, country_code TEXT, attribute_id TEXT,
  is_compared BOOLEAN, commodity_code TEXT, market_year SMALLINT, unit_name TEXT);
"""


@dataclass(frozen=True)
class Fact:
    """A row of `fct_psd`."""

    valid_from: str = "2025-06-12"
    valid_to: str | None = None
    last_seen_on: str = "2025-06-12"
    value: float = 1.0
    commodity_code: str = WHEAT
    country_code: str = "US"
    market_year: int = 2025
    attribute_id: str = "028"
    unit_id: str = "08"
    unit_name: str = "(1000 MT)"
    reported_month: str | None = None
    market_year_now: int = 2025
    commodity_name: str = "Wheat"
    country_name: str = "United States"
    attribute_name: str = "Production"


def lakehouse(
    *facts: Fact,
    releases: Sequence[tuple] = (JUNE,),
    spans: Sequence[tuple] = (),
    printed: Sequence[tuple[str, float, str | None, str, bool]] | None = None,
) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(_TABLES)
    for table, rows in (
        ("dim_release", releases),
        ("fct_uncertain_span", spans),
        ("fct_psd", [astuple(fact) for fact in facts]),
        ("fct_wasde", [(*figure, WHEAT, 2025, "(1000 MT)") for figure in printed or ()]),
    ):
        for row in rows:
            connection.execute(f"INSERT INTO serving.{table} VALUES ({', '.join(map(_literal, row))})")
    for statement in asof_macros("serving", with_wasde=printed is not None):
        connection.execute(statement)
    return connection


def standings(connection: duckdb.DuckDBPyConnection, days: Sequence[str], *checked_on: str | None) -> dict[str, str]:
    """How the only fact stands on each of these days of 2025."""
    found = {}
    for day in days:
        arguments = ", checked_on := ".join(map(_literal, [f"2025-{day}", *checked_on]))
        ((standing,),) = connection.execute(f"SELECT standing FROM serving.psd_asof_all({arguments})").fetchall()
        known = connection.execute(f"SELECT value FROM serving.psd_known({arguments})").fetchall()
        assert len(known) == (standing == "certain")
        found[day] = standing
    return found


def _literal(value: object) -> str:
    """A value in SQL; parameters would have DuckDB import pandas, which takes longer than all of these tests."""
    return "NULL" if value is None else repr(value)


def test_a_commodity_of_the_wasde_cycle_is_certain_until_the_next_release_is_due() -> None:
    connection = lakehouse(Fact(valid_from="2025-06-10"))
    assert standings(connection, ["06-09", "06-10", "06-12", "06-13", "07-10", "07-11", "08-12"]) == {
        "06-09": "unknown",
        "06-10": "certain",  # its stamp proves that it stood before the release
        "06-12": "certain",
        "06-13": "certain",
        "07-10": "certain",
        "07-11": "uncertain",
        "08-12": "uncertain",
    }


def test_another_commodity_is_certain_only_on_the_day_of_its_release() -> None:
    connection = lakehouse(Fact(commodity_code=COFFEE), spans=[(COFFEE, *UNSTAMPED[1:])])
    assert standings(connection, ["06-12", "06-13"]) == {"06-12": "certain", "06-13": "uncertain"}


def test_another_commodity_is_certain_until_the_last_release_that_shows_it() -> None:
    connection = lakehouse(Fact(commodity_code=COFFEE, last_seen_on="2025-07-11"), releases=[JUNE, JULY])
    assert standings(connection, ["06-13", "07-10", "07-11", "07-12"]) == {
        "06-13": "certain",
        "07-10": "certain",
        "07-11": "certain",
        "07-12": "uncertain",
    }


def test_the_newest_release_of_the_day_counts() -> None:
    connection = lakehouse(Fact(), releases=[JUNE, JULY], spans=[UNSTAMPED])
    assert standings(connection, ["07-10", "07-11", "07-12", "08-11", "08-12"]) == {
        "07-10": "certain",
        "07-11": "certain",
        "07-12": "certain",
        "08-11": "certain",
        "08-12": "uncertain",
    }


def test_a_late_correction_is_evidence_from_the_day_on_which_it_was_shown() -> None:
    corrected = ("2025-06-12", "2025-06-20", "2025-07-11")
    connection = lakehouse(Fact(), releases=[corrected], spans=[UNSTAMPED])
    assert standings(connection, ["06-12", "06-19", "06-20", "06-21"]) == {
        "06-12": "uncertain",
        "06-19": "uncertain",
        "06-20": "certain",
        "06-21": "certain",
    }


def test_a_value_confirmed_by_a_late_correction_is_certain_up_to_its_release_day() -> None:
    late = ("2025-07-11", "2025-07-20", "2025-08-12")
    connection = lakehouse(Fact(last_seen_on="2025-07-11"), releases=[JUNE, late])
    assert standings(connection, ["07-10", "07-11", "07-12", "07-20"]) == {
        "07-10": "certain",
        "07-11": "certain",
        "07-12": "uncertain",
        "07-20": "certain",
    }


def test_before_the_first_release_nothing_is_shown() -> None:
    connection = lakehouse(Fact(valid_from="2025-06-01"), spans=[UNSTAMPED])
    assert standings(connection, ["06-11", "06-12"]) == {"06-11": "uncertain", "06-12": "certain"}


def test_a_probe_vouches_for_the_newest_release_and_for_the_days_before_the_probe() -> None:
    connection = lakehouse(Fact(commodity_code=COFFEE), releases=[JUNE, JULY], spans=[(COFFEE, *UNSTAMPED[1:])])
    days = ["06-20", "07-12", "07-19", "07-20"]
    assert standings(connection, days, "2025-07-20") == {
        "06-20": "uncertain",
        "07-12": "certain",
        "07-19": "certain",
        "07-20": "uncertain",
    }
    assert {*standings(connection, days, None).values()} == {"uncertain"}
    assert {*standings(connection, days).values()} == {"uncertain"}


@pytest.mark.parametrize("until", ["2025-06-25", None])
def test_a_sheet_that_was_touched_is_uncertain_on_every_day_of_the_span(until: str | None) -> None:
    connection = lakehouse(
        Fact(last_seen_on="2025-07-11"), spans=[(WHEAT, "US", 2025, "2025-06-20", until, "touched"), UNSTAMPED]
    )
    assert standings(connection, ["06-19", "06-20", "06-25", "06-26"]) == {
        "06-19": "certain",
        "06-20": "uncertain",
        "06-25": "uncertain",
        "06-26": "certain" if until else "uncertain",
    }


def test_a_span_concerns_its_own_sheet_only() -> None:
    facts = [Fact(), Fact(country_code="BR"), Fact(market_year=2024), Fact(commodity_code=COFFEE)]
    connection = lakehouse(*facts, spans=[(WHEAT, "US", 2025, "2025-06-10", None, "touched")])
    rows = connection.execute(
        "SELECT commodity_code, country_code, market_year, certain FROM serving.psd_asof('2025-06-12')"
    ).fetchall()
    assert sorted(rows) == [
        (WHEAT, "BR", 2025, True),
        (WHEAT, "US", 2024, True),
        (WHEAT, "US", 2025, False),
        (COFFEE, "US", 2025, True),
    ]


@pytest.mark.parametrize(
    ("valid_from", "standing"),
    [("2025-06-11", "uncertain"), ("2025-06-12", "uncertain"), ("2025-06-13", "certain"), ("2025-06-14", "certain")],
)
def test_facts_before_a_rekeying_are_uncertain_in_its_span(valid_from: str, standing: str) -> None:
    spans = [(WHEAT, None, None, first, "2025-06-25", "rekeyed") for first in ("2025-06-11", "2025-06-13")]
    connection = lakehouse(Fact(valid_from=valid_from), spans=[*spans, (COFFEE, None, None, "2025-06-20", None, "r")])
    assert standings(connection, ["06-24", "06-25", "06-26"]) == {
        "06-24": standing,
        "06-25": standing,
        "06-26": "certain",
    }


def test_a_version_is_served_until_the_day_before_its_end_and_absent_until_the_next() -> None:
    facts = [
        Fact(valid_from="2025-06-12", valid_to="2025-06-20", value=1.0),
        Fact(valid_from="2025-06-25", valid_to="2025-07-01", value=2.0),
    ]
    connection = lakehouse(*facts)
    found = {}
    for day in ("06-11", "06-12", "06-19", "06-20", "06-24", "06-25", "06-30", "07-01"):
        rows = connection.execute(f"SELECT value, standing FROM serving.psd_asof_all('2025-{day}')").fetchall()
        found[day] = rows
    assert found == {
        "06-11": [(None, "unknown")],
        "06-12": [(1.0, "certain")],
        "06-19": [(1.0, "certain")],
        "06-20": [(None, "absent")],
        "06-24": [(None, "absent")],
        "06-25": [(2.0, "certain")],
        "06-30": [(2.0, "certain")],
        "07-01": [(None, "absent")],
    }


def test_a_fact_that_was_shown_before_is_absent_and_not_unknown_between_two_versions() -> None:
    facts = [
        Fact(valid_from="2025-06-12", valid_to="2025-06-20", commodity_code=COFFEE),
        Fact(valid_from="2025-07-25", commodity_code=COFFEE),
    ]
    (row,) = lakehouse(*facts).execute("SELECT standing FROM serving.psd_asof_all('2025-07-20')").fetchall()
    assert row == ("absent",)


def test_a_fact_that_the_release_of_the_day_does_not_show_is_absent_and_not_unknown() -> None:
    connection = lakehouse(Fact(valid_from="2025-08-12"), Fact(commodity_code=COFFEE, valid_from="2025-08-12"))
    found = {}
    for day in ("06-11", "06-12", "07-10", "07-11", "08-11"):
        rows = connection.execute(
            f"SELECT commodity_code, standing FROM serving.psd_asof_all('2025-{day}') ORDER BY 1"
        ).fetchall()
        found[day] = [standing for _, standing in rows]
    assert found == {
        "06-11": ["unknown", "unknown"],
        "06-12": ["absent", "absent"],
        "07-10": ["absent", "unknown"],
        "07-11": ["unknown", "unknown"],
        "08-11": ["unknown", "unknown"],
    }


def test_each_fact_has_its_own_value_and_coverage_counts_it_under_its_commodity() -> None:
    keys: list[dict] = [
        {},
        {"commodity_code": COFFEE, "commodity_name": "Coffee"},
        {"country_code": "BR"},
        {"market_year": 2024},
        {"attribute_id": "176"},
        {"unit_id": "26"},
    ]
    facts = [Fact(value=float(number), **key) for number, key in enumerate(keys)]
    facts.append(Fact(valid_from="2025-06-12", valid_to="2025-06-13", attribute_id="184"))
    facts.append(Fact(valid_from="2025-07-31", attribute_id="184", country_code="BR"))
    connection = lakehouse(*facts)
    found = connection.execute(
        "SELECT commodity_code, country_code, market_year, attribute_id, unit_id, value, standing"
        " FROM serving.psd_asof_all('2025-06-30')"
    ).fetchall()
    assert sorted(found) == [
        (WHEAT, "BR", 2025, "028", "08", 2.0, "certain"),
        (WHEAT, "BR", 2025, "184", "08", None, "absent"),
        (WHEAT, "US", 2024, "028", "08", 3.0, "certain"),
        (WHEAT, "US", 2025, "028", "08", 0.0, "certain"),
        (WHEAT, "US", 2025, "028", "26", 5.0, "certain"),
        (WHEAT, "US", 2025, "176", "08", 4.0, "certain"),
        (WHEAT, "US", 2025, "184", "08", None, "absent"),
        (COFFEE, "US", 2025, "028", "08", 1.0, "uncertain"),
    ]
    assert connection.execute("FROM serving.psd_asof_coverage('2025-06-30')").fetchall() == [
        (WHEAT, "Wheat", 5, 0, 0, 2),
        (COFFEE, "Coffee", 0, 1, 0, 0),
    ]


LATER = ("2025-11-14", "2025-11-14", "2025-12-09")
"""A release some months after JUNE: what stood between the two is not landed."""


def answers(connection: duckdb.DuckDBPyConnection, *days: str) -> list[tuple]:
    """Value, standing and source of the production of wheat on each of these days of 2025."""
    return [
        connection.execute(
            f"SELECT value, standing, source FROM serving.psd_asof_all('2025-{day}') WHERE attribute_id = '028'"
        ).fetchone()
        for day in days
    ]


def test_a_newer_report_of_wasde_replaces_a_value_that_is_not_certain() -> None:
    reports = [
        ("2025-06-12 12:00", 9999.0, "US", "028", True),  # of the landed release's own day
        ("2025-07-11 12:00", 1040.0, "US", "028", True),
        ("2025-08-12 12:00", 1000.0, "US", "028", True),  # the landed value, rounded
        ("2025-09-12 12:00", 1010.0, "US", "028", True),
        ("2025-12-09 12:00", 8888.0, "US", "028", True),
    ]
    fact = Fact(value=1004.5, valid_to="2025-11-14")
    seen = Fact(value=1017.0, valid_from="2025-11-14", last_seen_on="2025-11-14")
    connection = lakehouse(fact, seen, releases=(JUNE, LATER), printed=reports)
    assert answers(connection, "06-12", "07-10", "07-11", "08-11", "08-12", "09-12", "11-13", "11-14", "12-08") == [
        (1004.5, "certain", "psd"),
        (1004.5, "certain", "psd"),
        (1040.0, "uncertain", "wasde"),
        (1040.0, "uncertain", "wasde"),
        (1004.5, "uncertain", "psd"),
        (1010.0, "uncertain", "wasde"),
        (1010.0, "uncertain", "wasde"),
        (1017.0, "certain", "psd"),
        (1017.0, "certain", "psd"),
    ]
    assert connection.execute(
        "SELECT value, valid_from, valid_to, certain, source FROM serving.psd_asof('2025-09-20')"
    ).fetchall() == [(1010.0, date(2025, 9, 12), date(2025, 11, 14), False, "wasde")]
    assert connection.execute("FROM serving.psd_known('2025-09-20')").fetchall() == []


def test_a_report_shows_a_fact_that_only_a_later_release_shows() -> None:
    """The first estimate of a market year came between two landed releases."""
    reports = [("2025-07-11 12:00", 50.0, "US", "028", True), ("2025-07-11 12:00", 60.0, "CA", "028", True)]
    first_seen = Fact(value=48.0, valid_from="2025-11-14", last_seen_on="2025-11-14")
    connection = lakehouse(first_seen, releases=(JUNE, LATER), printed=reports)
    assert answers(connection, "07-10", "07-11", "11-13", "11-14") == [
        (None, "absent", None),
        (50.0, "uncertain", "wasde"),
        (50.0, "uncertain", "wasde"),
        (48.0, "certain", "psd"),
    ]
    (row,) = connection.execute("FROM serving.psd_asof('2025-08-01')").fetchall()
    names = [name for name, *_ in connection.description]
    assert dict(zip(names, row, strict=True)) == {
        **vars(first_seen),
        "value": 50.0,
        "valid_from": date(2025, 7, 11),
        "valid_to": date(2025, 11, 14),
        "last_seen_on": date(2025, 7, 11),
        "certain": False,
        "source": "wasde",
    }


@pytest.mark.parametrize(
    "figure",
    [
        ("2025-07-11 12:00", 50.0, None, "028", True),
        ("2025-07-11 12:00", 50.0, "US", "176", True),
        ("2025-07-11 12:00", 50.0, "US", "028", False),
        ("2025-06-12 12:00", 50.0, "US", "028", True),
    ],
    ids=[
        "of a group",
        "of another attribute",
        "of a table that is not known to be that of PSD",
        "of the day of the landed release",
    ],
)
def test_no_other_figure_replaces_a_value(figure: tuple) -> None:
    connection = lakehouse(Fact(value=20.0), printed=[figure])
    assert answers(connection, "07-11") == [(20.0, "uncertain", "psd")]
    assert answers(lakehouse(Fact(value=20.0)), "07-11") == [(20.0, "uncertain", "psd")]


def test_a_report_older_than_the_value_does_not_replace_it() -> None:
    """Its stamp shows that the value stood before the release that shows it; the report came before that."""
    touched = (WHEAT, "US", 2025, "2025-10-01", "2025-11-13", "touched")
    newer = Fact(value=20.0, valid_from="2025-10-01", last_seen_on="2025-11-14")
    report = ("2025-09-12 12:00", 50.0, "US", "028", True)
    connection = lakehouse(newer, releases=(JUNE, LATER), spans=[touched], printed=[report])
    assert answers(connection, "09-20", "10-15") == [(50.0, "uncertain", "wasde"), (20.0, "uncertain", "psd")]


def test_a_report_of_the_day_that_a_stamp_gives_replaces_the_value() -> None:
    """The report shows what USDA said on that day; a stamp only shows that the value is no older."""
    touched = (WHEAT, "US", 2025, "2025-09-12", "2025-11-13", "touched")
    stamped = Fact(value=20.0, valid_from="2025-09-12", last_seen_on="2025-11-14")
    report = ("2025-09-12 12:00", 50.0, "US", "028", True)
    connection = lakehouse(stamped, releases=(JUNE, LATER), spans=[touched], printed=[report])
    assert answers(connection, "09-12") == [(50.0, "uncertain", "wasde")]

"""`certain` against the full truth: generated histories of which only some postings are landed.

The truth is a list of postings; between two of them nothing changes. Each touches a few balance sheets, stamps them
with its month and gives them values of a small set, so that many change and change back. The models' own SQL runs on
what is landed, and no certain answer may differ from what stood on that day.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from random import Random

import duckdb
import pytest

from dataflows.lakehouse.transform import PROJECT_DIR
from dataflows.serving.generation import Generation
from dataflows.source.release_dates import next_release_due
from ops.health.status import missed_release
from ops.pipelines.current_file import CurrentFile
from tests.support.plain_models import Line, PlainSnapshot, serve

CORN, COFFEE = "0440000", "0711100"
HISTORIES = 8
DAYS_ASKED = 24
Sheet = tuple[str, str, int]
"""commodity_code, country_code, market_year"""


@dataclass(frozen=True)
class Shown:
    """A balance sheet: its stamp, None for Month 00, and a value for each attribute."""

    stamp: date | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Posting:
    """A file that USDA posted, with everything it shows."""

    day: date
    sheets: Mapping[Sheet, Shown]

    @property
    def month(self) -> date:
        return self.day.replace(day=1)

    def landed(self, **differently: object) -> PlainSnapshot:
        lines = [
            Line(*sheet, shown.stamp, attribute, value)
            for sheet, shown in self.sheets.items()
            for attribute, value in shown.values.items()
        ]
        noon = datetime.combine(self.day, time(12))
        return replace(PlainSnapshot(f"on-{self.day}", self.month, self.day, lines, noon), **differently)


def wasde_days(first: str, last: str) -> list[date]:
    """USDA's own days: from October 2018 on with two in December, and none in January."""
    path = PROJECT_DIR / "seeds" / "wasde_release_days.csv"
    with path.open(newline="") as file:
        days = {row["released_at_washington"][:10] for row in csv.DictReader(file)}
    return [date.fromisoformat(day) for day in sorted(days) if first <= day <= last]


def corn_history(random: Random) -> list[Posting]:
    """Corn is touched on USDA's days only."""
    return history(random, CORN, wasde_days("2018-08-01", "2019-08-31"), rekeyed_on=None)


def coffee_history(random: Random) -> list[Posting]:
    """Coffee is touched on any day, and re-keyed on one of 2023, with every stamp kept."""
    first = date(2022, 10, 1)
    days = sorted({first + timedelta(days=random.randrange(600)) for _ in range(14)})
    in_2023 = [day for day in days if day.year == 2023]
    return history(random, COFFEE, days, rekeyed_on=random.choice(in_2023))


def history(random: Random, commodity: str, days: Sequence[date], rekeyed_on: date | None) -> list[Posting]:
    sheets = {
        (commodity, country, year): Shown(
            random.choice([None, date(2015, 6, 1), date(2018, 1, 1)]), some_values(random)
        )
        for country in ("BR", "US")
        for year in range(2010, 2016)
    }
    postings = []
    for day in days:
        month = day.replace(day=1)
        if day == rekeyed_on:
            sheets = {(code, country, year - 1): shown for (code, country, year), shown in sheets.items()}
        else:
            for sheet in random.sample(sorted(sheets), k=random.randint(0, 5)):
                sheets[sheet] = Shown(
                    None if sheets[sheet].stamp is None and random.random() < 0.5 else month, some_values(random)
                )
            if random.random() < 0.2:
                sheets.pop(random.choice(sorted(sheets)))
            if random.random() < 0.2:
                sheets[commodity, "US", random.randint(2016, 2018)] = Shown(month, some_values(random))
        postings.append(Posting(day, dict(sheets)))
    return postings


def some_values(random: Random) -> Mapping[str, float]:
    return {attribute: random.choice((86.0, 87.0)) for attribute in ("028", "176")}


@pytest.mark.parametrize("seed", range(HISTORIES))
@pytest.mark.parametrize("make", [corn_history, coffee_history])
def test_no_certain_answer_differs_from_what_stood(make, seed: int) -> None:
    random = Random(f"{make.__name__} {seed}")
    postings = make(random)
    landed = [posting.landed() for posting in random.sample(postings, k=random.randint(1, len(postings)))]
    if random.random() < 0.5:
        landed.append(late_correction(random, postings))
    with serve(landed) as connection:
        wrong = [mistake for day in days_asked(random, postings) for mistake in mistakes(connection, postings, day)]
    assert wrong == [], f"landed {sorted(snapshot.key for snapshot in landed)}"


@pytest.mark.parametrize("seed", range(3))
def test_with_every_posting_landed_all_of_the_wasde_cycle_is_certain_on_every_day(seed: int) -> None:
    postings = corn_history(Random(seed))
    with serve([posting.landed() for posting in postings]) as connection:
        for day in every_day(postings[0].day, postings[-1].day + timedelta(days=28)):
            truth = standing(postings, day)
            assert {fact: value for fact, (value, certain) in answers(connection, day).items() if certain} == truth
        # The next release is due on 12 September 2019.
        last = {certain for _, certain in answers(connection, date(2019, 9, 11)).values()}
        due = {certain for _, certain in answers(connection, date(2019, 9, 12)).values()}
        assert (last, due) == ({True}, {False})


def test_a_value_that_changed_and_changed_back_is_not_certain_in_between() -> None:
    """Brazil's corn of market year 2020: 87.0 million t in August 2021, 86.0 in September, 87.0 in December."""
    before, after = (
        Posting(day, {(CORN, "BR", 2020): Shown(stamp, {"028": 87.0}), (CORN, "US", 1990): Shown(old, {"028": 200.0})})
        for day, stamp, old in (
            (date(2021, 8, 12), date(2021, 8, 1), date(2000, 1, 1)),
            (date(2022, 3, 9), date(2021, 12, 1), date(2000, 1, 1)),
        )
    )
    certain = {}
    with serve([before.landed(), after.landed()]) as connection:
        for day in every_day(date(2021, 8, 12), date(2022, 4, 10)):
            for fact, (_, is_certain) in answers(connection, day).items():
                certain.setdefault(fact[1], {})[day] = is_certain
    # Until September's release, and again from the end of its stamp's month until April's is due.
    assert uncertain_spans(certain["BR"]) == [
        (date(2021, 9, 10), date(2021, 12, 30)),
        (date(2022, 4, 8), date(2022, 4, 10)),
    ]
    assert uncertain_spans(certain["US"]) == [(date(2022, 4, 8), date(2022, 4, 10))], "nobody touched it"


def test_a_stamp_that_was_kept_over_a_change_proves_nothing() -> None:
    january, june = (
        Posting(day, {(CORN, "BR", 2020): Shown(date(2018, 5, 1), {"028": value, "176": 5.0})})
        for day, value in ((date(2021, 1, 12), 86.0), (date(2021, 6, 10), 87.0))
    )
    with serve([january.landed(), june.landed()]) as connection:
        rows = connection.execute("SELECT value, valid_from, valid_to FROM serving.fct_psd WHERE attribute_id = '028'")
        assert sorted(rows.fetchall()) == [
            (86.0, date(2018, 5, 31), date(2021, 6, 10)),
            (87.0, date(2021, 6, 10), None),
        ]
        march = {fact[3]: certain for fact, (_, certain) in answers(connection, date(2021, 3, 31)).items()}
        assert march == {"028": False, "176": False}, "who changed one attribute may have touched the others"


@pytest.mark.parametrize(
    ("shown_on", "proved"), [(date(2024, 8, 1), ["BR"]), (date(2024, 8, 12), ["BR"]), (date(2024, 8, 31), [])], ids=str
)
def test_a_stamp_of_the_month_of_the_release_before_proves_a_change_only_if_it_is_newer_and_days_are_left(
    shown_on: date, proved: list[str]
) -> None:
    """A newer stamp, one that was kept over the change, and one that replaces Month 00."""
    stamps = {"BR": date(2024, 7, 1), "CO": date(2024, 8, 1), "ET": None}
    before = {(COFFEE, country, 2024): Shown(stamp, {"028": 86.0}) for country, stamp in stamps.items()}
    after = {sheet: Shown(date(2024, 8, 1), {"028": 87.0}) for sheet in before}
    with serve([Posting(shown_on, before).landed(), Posting(date(2024, 9, 10), after).landed()]) as connection:
        found = connection.execute("SELECT country_code, valid_from FROM serving.fct_psd WHERE value = 87").fetchall()
    assert dict(found) == {country: date(2024, 8, 31) if country in proved else date(2024, 9, 10) for country in stamps}


def test_after_a_known_rekeying_no_older_stamp_reaches_back_over_it() -> None:
    sheets = {
        (COFFEE, "BR", 2010): Shown(date(2015, 6, 1), {"028": 55.0}),
        (COFFEE, "BR", 2023): Shown(date(2024, 2, 1), {"028": 66.0}),
    }
    with serve([Posting(date(2026, 5, 12), sheets).landed()]) as connection:
        rows = connection.execute("SELECT market_year, valid_from FROM serving.fct_psd ORDER BY 1").fetchall()
    assert rows == [(2010, date(2023, 12, 31)), (2023, date(2024, 2, 29))]


def test_a_crop_is_one_series_over_a_rekeying() -> None:
    before = {(COFFEE, "BR", year): Shown(date(2020, 1, 1), {"028": float(year)}) for year in range(2000, 2012)}
    after = {(COFFEE, "BR", year - 1): shown for (_, _, year), shown in before.items()}
    with serve([Posting(date(2023, 6, 9), before).landed(), Posting(date(2023, 7, 12), after).landed()]) as connection:
        rows = connection.execute(
            "SELECT market_year_now, COUNT(*), COUNT(DISTINCT value), COUNT(DISTINCT market_year)"
            " FROM serving.fct_psd GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert rows == [(year, 2, 1, 2) for year in range(1999, 2011)]


def test_a_probe_vouches_for_the_days_before_it() -> None:
    """Commodities outside the WASDE cycle are updated on any day."""
    posting = Posting(date(2026, 5, 12), {(COFFEE, "BR", 2023): Shown(date(2026, 5, 1), {"028": 66.0})})
    with serve([posting.landed()]) as connection:
        found = {
            (day, checked_on): connection.execute(
                "SELECT certain FROM serving.psd_asof(?::DATE, checked_on := ?::DATE)", [day, checked_on]
            ).fetchall()[0][0]
            for day in ("2026-05-12", "2026-05-13", "2026-05-20", "2026-05-21")
            for checked_on in (None, "2026-05-21")
        }
    assert [day for (day, checked_on), certain in found.items() if certain and checked_on is None] == ["2026-05-12"]
    checked = [day for (day, checked_on), certain in found.items() if certain and checked_on]
    assert checked == ["2026-05-12", "2026-05-13", "2026-05-20"]


def test_status_and_the_models_agree_when_the_next_release_is_due() -> None:
    """Also over October 2025, which had no release, and beyond USDA's calendar, which ends in June 2026."""
    days = sorted([*wasde_days("2025-07-01", "2026-06-30"), date(2025, 8, 20), date(2026, 7, 7), date(2026, 12, 8)])
    served = [Posting(day, {(CORN, "BR", 2020): Shown(date(2018, 5, 1), {"028": 86.0})}).landed() for day in days]
    with serve(served) as connection:
        due = dict(connection.execute("SELECT released_on, next_release_due FROM serving.dim_release").fetchall())
    assert due == {day: next_release_due(day) for day in days}
    assert due[date(2025, 9, 12)] == date(2025, 11, 14) and due[date(2026, 12, 8)] == date(2027, 1, 8)


@pytest.mark.parametrize(("released_on", "checked_on"), [("2026-05-12", None), ("2026-06-11", None), ("2026-06-11", 9)])
def test_a_release_that_status_calls_fresh_is_certain_up_to_the_last_covered_day(
    released_on: str, checked_on: int | None
) -> None:
    """A listed day, the days beyond the calendar, and these with a check of the current file on 9 July."""
    day = date.fromisoformat(released_on)
    checked = CurrentFile(date(2026, 7, checked_on), "k", is_served=True) if checked_on else None
    generation = served_generation(day)
    with serve([Posting(day, {(CORN, "BR", 2020): Shown(date(2018, 5, 1), {"028": 86.0})}).landed()]) as connection:
        asked = {
            each: connection.execute(
                "SELECT certain FROM serving.psd_asof(?::DATE, checked_on := ?::DATE)",
                [each, checked.checked_on if checked else None],
            ).fetchall()
            for each in every_day(day, day + timedelta(days=60))
        }
    last = max(each for each, found in asked.items() if found == [(True,)])
    fresh = [now for now in asked if missed_release(generation, checked, datetime.combine(now, time(12), UTC)) is None]
    # The due day itself and the day after a check are not over, or nobody has had the time to look.
    assert last + timedelta(days=1) <= fresh[-1] <= last + timedelta(days=2)
    assert fresh == list(every_day(day, fresh[-1]))


def served_generation(released_on: date) -> Generation:
    return Generation(
        number=1,
        created_at=datetime.combine(released_on, time(20), UTC),
        code_version="abc123",
        duckdb_version="1.5.5",
        models_digest="0" * 64,
        snapshots=("k",),
        newest_released_on=released_on,
        row_counts={"fct_psd": 1},
        forced_reason=None,
        size_bytes=4,
        sha256="0" * 64,
    )


def late_correction(random: Random, postings: Sequence[Posting]) -> PlainSnapshot:
    """The archive's file of a month, replaced after a later month was out: it was never what stood."""
    number = random.randrange(len(postings) - 1)
    posting, later = postings[number], postings[number + 1]
    sheet = random.choice(sorted(posting.sheets))
    corrected = {**posting.sheets, sheet: Shown(posting.month, some_values(random))}
    published_at = datetime.combine(later.day, time(12)) + timedelta(days=random.randint(1, 60))
    return Posting(posting.day, corrected).landed(key=f"corrected-{posting.day}", published_at=published_at)


def days_asked(random: Random, postings: Sequence[Posting]) -> list[date]:
    first, last = postings[0].day - timedelta(days=60), postings[-1].day + timedelta(days=60)
    around = {posting.day + timedelta(days=n) for posting in postings for n in (-1, 0, 1)}
    month_ends = {day for day in every_day(first, last) if (day + timedelta(days=1)).day == 1}
    return sorted(random.sample(sorted(around | month_ends), k=DAYS_ASKED))


def every_day(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def standing(postings: Sequence[Posting], day: date) -> dict[tuple, float]:
    """What stood on that day; before the first posting, what that says (it changes nothing)."""
    posted = [posting for posting in postings if posting.day <= day] or postings[:1]
    return {
        (*sheet, attribute): value
        for sheet, shown in posted[-1].sheets.items()
        for attribute, value in shown.values.items()
    }


def answers(connection: duckdb.DuckDBPyConnection, day: date) -> dict[tuple, tuple[float, bool]]:
    rows = connection.execute(
        f"SELECT commodity_code, country_code, market_year, attribute_id, value, certain FROM serving.psd_asof('{day}')"
    ).fetchall()
    found = {tuple(fact): (value, certain) for *fact, value, certain in rows}
    assert len(found) == len(rows), f"a fact has two values on {day}"
    return found


def mistakes(connection: duckdb.DuckDBPyConnection, postings: Sequence[Posting], day: date) -> list[str]:
    truth = standing(postings, day)
    return [
        f"{day} {fact}: {value}, and {truth.get(fact)} stood"
        for fact, (value, certain) in answers(connection, day).items()
        if certain and truth.get(fact) != value
    ]


def uncertain_spans(certain: Mapping[date, bool]) -> list[tuple[date, date]]:
    spans: list[tuple[date, date]] = []
    for day in sorted(day for day, is_certain in certain.items() if not is_certain):
        if spans and spans[-1][1] == day - timedelta(days=1):
            spans[-1] = (spans[-1][0], day)
        else:
            spans.append((day, day))
    return spans

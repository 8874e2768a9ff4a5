"""The chart of a fact and its versions tell certain days from uncertain ones exactly as `psd_asof` does."""

import random
import shutil
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from dataflows.serving import ServingReader
from dataflows.serving.asof import asof_macros
from ops.pipelines.release_changes import FactKey
from tests.support.served import Served
from tui.releases import questions
from tui.releases.fact import story_lines

FIRST, DAYS = date(2024, 1, 1), 80
KEYS = {
    "Wheat": FactKey("0410000", "US", 2025, "028", "08"),
    "Coffee, Green": FactKey("0711100", "BR", 2025, "028", "02"),
}
_VALUES = (100.0, 110.0, 120.0)


def _literal(value: object) -> str:
    return "NULL" if value is None else f"DATE '{value}'" if isinstance(value, date) else repr(value)


def _insert(con: duckdb.DuckDBPyConnection, table: str, columns: str, rows: list[tuple[object, ...]]) -> None:
    values = ", ".join(f"({', '.join(map(_literal, row))})" for row in rows)
    con.execute(f"INSERT INTO serving.{table} ({columns}) VALUES {values}")


def _write_history(con: duckdb.DuckDBPyConnection, key: FactKey, rng: random.Random) -> None:
    """Write random releases, spans of every kind, and versions of one fact."""
    releases = sorted(rng.sample([FIRST + timedelta(days=day) for day in range(8, DAYS - 10)], rng.randint(2, 6)))
    after = [*releases[1:], FIRST + timedelta(days=DAYS)]
    rows = [
        (day, day + timedelta(days=rng.choice((0, 0, 3))), rng.choice((next_day, day + timedelta(days=4), None)))
        for day, next_day in zip(releases, after, strict=True)
    ]
    _insert(con, "dim_release", "released_on, shown_from, next_release_due", rows)
    for reason in ("unstamped", *rng.choices(("touched", "unstamped", "rekeyed"), k=rng.randint(0, 3))):
        start = FIRST + timedelta(days=rng.randrange(DAYS))
        end = rng.choice((None, start + timedelta(days=rng.randrange(25))))
        sheet = (
            (None, None)
            if reason == "rekeyed"
            else rng.choice(((key.country_code, key.market_year),) * 3 + (("XX", 2025),))
        )
        columns = "commodity_code, country_code, market_year, uncertain_from, uncertain_to, reason"
        _insert(con, "fct_uncertain_span", columns, [(key.commodity_code, *sheet, start, end, reason)])
    starts = sorted({day - timedelta(days=rng.choice((0, 0, 5))) for day in releases[:1] + releases[1::2]})
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
        seen = max((day for day in releases if end is None or day < end), default=releases[0])
        shown = {"value": _VALUES[number % len(_VALUES)], "valid_from": start, "valid_to": end, "last_seen_on": seen}
        replaced = ", ".join(f"{_literal(value)} AS {name}" for name, value in shown.items())
        con.execute(f"INSERT INTO serving.fct_psd BY NAME SELECT * REPLACE ({replaced}) FROM template")


@pytest.mark.parametrize("commodity", KEYS)
@pytest.mark.parametrize("seed", range(4))
def test_every_day_of_a_generated_history_is_as_certain_as_psd_asof_says(
    served: Served, tmp_path: Path, commodity: str, seed: int
) -> None:
    key, rng = KEYS[commodity], random.Random(f"{commodity} {seed}")
    path = tmp_path / "history.duckdb"
    shutil.copyfile(served.context.settings.serving_path.resolve(), path)
    checked_on = rng.choice((None, FIRST + timedelta(days=rng.randrange(DAYS))))
    with duckdb.connect(str(path)) as con:
        fact = f"attribute_id = '028' AND market_year = 2025 AND commodity_code = '{key.commodity_code}'"
        con.execute(f"CREATE TEMP TABLE template AS FROM serving.fct_psd WHERE {fact} LIMIT 1")
        for table in ("dim_release", "fct_uncertain_span", "fct_psd", "generation"):
            con.execute(f"DELETE FROM serving.{table}")
        _write_history(con, key, rng)
        for statement in asof_macros("serving"):
            con.execute(statement)
        expected = {}
        for number in range(DAYS):
            day = FIRST + timedelta(days=number)
            checked = f", checked_on := DATE '{checked_on}'" if checked_on else ""
            answer = con.execute(f"SELECT value, certain FROM serving.psd_asof(DATE '{day}'{checked})").fetchall()
            expected |= {day: answer[0]} if answer else {}
    with ServingReader(path) as reader:
        story = questions.fact_story(reader, key, checked_on)
    assert story is not None
    today = FIRST + timedelta(days=DAYS - 1)
    found = {
        day: (version.value, [piece.certain for piece in version.pieces if piece.start <= day][-1])
        for day in expected
        for version in story.versions
        if version.valid_from <= day and (version.valid_to is None or day < version.valid_to)
    }
    assert found == expected and {certain for _, certain in expected.values()} <= {True, False}
    certain, uncertain = story_lines(story, today + timedelta(days=1))
    drawn = {
        day: is_certain
        for is_certain, lines in ((False, uncertain), (True, certain))
        for line in lines
        for day in expected
        if line.xs[0] <= day.toordinal() < line.xs[1]
    }
    assert drawn == {day: is_certain for day, (_, is_certain) in expected.items()}

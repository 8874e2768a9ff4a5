"""`materia explain`: the lines of the landed zips that show a fact, and the verdict of `psd_asof`."""

import csv
import io
import json
import random
import zipfile
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from dataflows.errors import SettingsError
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.source.probe_memory import LiveCheck
from ops.config.settings import Settings
from ops.explain import Explanation, FileEntry, ReleaseStand, Span, Version, _reasons, explain
from ops.host.exits import Exit
from tests.support.command_line import materia
from tests.support.served_demo import ServedDemo

FACT = "0440000/US/2024/028"
KEY = "commodity_code, country_code, market_year, attribute_id, unit_id"


@pytest.fixture(scope="module")
def settings(served_demo: ServedDemo) -> Settings:
    return Settings.from_environ({"MATERIA_DATA_DIR": str(served_demo.data_dir)})


@pytest.fixture(scope="module")
def zips(served_demo: ServedDemo) -> dict[str, tuple[Snapshot, list[list[str]]]]:
    """Every landed zip, read by Python: its snapshot and the lines of its CSV."""
    landing = LocalLanding(served_demo.data_dir / "landing")
    read = {}
    for snapshot in landing.snapshots():
        with zipfile.ZipFile(landing.zip_path(snapshot.key)) as archive:
            text = archive.read(snapshot.member).decode()
        read[snapshot.key] = snapshot, list(csv.reader(io.StringIO(text, newline="")))
    return read


def explained(settings: Settings, fact: str, day: date = date(2100, 1, 1)) -> Explanation:
    return explain(settings, fact, day)


def some_facts(served: ServedDemo, count: int) -> list[dict[str, Any]]:
    """Facts with several versions first, so that files differ."""
    facts = served.rows(f"SELECT {KEY} FROM serving.fct_psd GROUP BY ALL ORDER BY COUNT(*) DESC, {KEY}")
    return facts[: count // 2] + random.Random(7).sample(facts, count - count // 2)


def test_each_line_is_the_line_of_the_landed_zip(
    served_demo: ServedDemo, settings: Settings, zips: dict[str, tuple[Snapshot, list[list[str]]]]
) -> None:
    for fact in some_facts(served_demo, 12):
        found = explained(settings, "/".join(map(str, fact.values())))
        assert [each.snapshot_key for each in found.shown] == list(zips)
        for each in found.shown:
            snapshot, lines = zips[each.snapshot_key]
            assert each.sha256 == snapshot.sha256
            holding = [
                (number, line)
                for number, line in enumerate(lines, 1)
                if [line[0], line[2], line[4], line[7], line[9]] == list(map(str, fact.values()))
            ]
            if not holding:
                assert (each.line, each.value, each.stamp, each.version) == (None, None, None, None)
                continue
            ((number, line),) = holding
            assert (each.line, each.value, each.stamp) == (number, float(line[11]), f"{line[5]}-{line[6]}")
            assert found.versions[each.version - 1].value == each.value


def test_the_verdict_is_that_of_psd_asof(served_demo: ServedDemo, settings: Settings) -> None:
    days = [row["day"] for row in served_demo.rows("SELECT released_on AS day FROM serving.dim_release ORDER BY 1")]
    asked = [days[0] - timedelta(1), *(day + timedelta(by) for day in days for by in (0, 10)), days[-1] + timedelta(90)]
    seen = set()
    for fact in some_facts(served_demo, 8):
        where = " AND ".join(f"{name} = '{value}'" for name, value in fact.items())
        for day in asked:
            found = explained(settings, "/".join(map(str, fact.values())), day)
            stands = served_demo.rows(f"SELECT value, standing FROM serving.psd_asof_all(DATE '{day}') WHERE {where}")
            assert [{"value": found.value, "standing": found.standing}] == stands
            assert found.reasons
            if found.standing == "certain":
                assert all(each.startswith(("shown: ", "untouched: ", "stamped: ")) for each in found.reasons)
            seen.add(found.standing)
    assert {"certain", "unknown"} <= seen


def test_a_check_of_the_current_file_makes_days_before_it_certain(served_demo: ServedDemo, tmp_path: Path) -> None:
    """Only while it found the newest landed file, and that is served."""
    data_dir = served_demo.copy(tmp_path / "data")
    landing, settings = LocalLanding(data_dir / "landing"), Settings.from_environ({"MATERIA_DATA_DIR": str(data_dir)})
    before, newest = landing.snapshots()[-2:]
    (coffee,) = served_demo.rows(
        f"SELECT {KEY} FROM serving.fct_psd WHERE commodity_code = '0711100' AND valid_to IS NULL ORDER BY ALL LIMIT 1"
    )
    fact, day = "/".join(map(str, coffee.values())), newest.released_on + timedelta(5)
    checked = day + timedelta(1)

    def standing(key: str, checked_on: date) -> tuple[str, date | None]:
        live = LiveCheck(checked_on, key)
        landing.update_memory(newest.dataset, lambda memory: replace(memory, live=live))
        found = explained(settings, fact, day)
        return found.standing, found.checked_on

    assert explained(settings, fact, day).standing == "uncertain"
    assert standing(newest.key, checked) == ("certain", checked)
    assert "USDA's current file was still that release" in explained(settings, fact, day).reasons[0]
    assert standing(newest.key, day) == ("uncertain", day)
    assert standing(before.key, checked) == ("uncertain", None)
    assert standing(newest.key, checked) == ("certain", checked)
    later = replace(newest, key="later", release_year=newest.release_year + 1)
    landing.write_marker(later)
    assert standing(newest.key, checked) == ("uncertain", None)


def test_names_codes_and_short_codes_name_the_same_fact(settings: Settings) -> None:
    by_code = explained(settings, FACT)
    for text in (
        'Corn/"United States"/2024/Production',
        "corn/united states/2024/production",
        "440000/us/2024/28",
        f"{FACT}/{by_code.fact.unit.code}",
        f"{FACT}/{by_code.fact.unit.name}",
    ):
        assert explained(settings, text) == by_code
    assert str(by_code.fact.commodity) == "Corn (0440000)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write COMMODITY/COUNTRY/MARKET_YEAR/ATTRIBUTE"),
        ("Corn/US/2024", "such as 0440000/US/2024/028"),
        ("Corn/US/now/Production", "invalid fact"),
        ("Corn/US/2024/028/08/x", "invalid fact"),
        ("Korn/US/2024/028", "no commodity is called 'Korn'; near matches: Corn (0440000)"),
        ("Corn/United Sates/2024/028", "no country is called 'United Sates'; near matches: United States (US)"),
        ("Corn/US/2024/stocks", "near matches: Beginning Stocks (020), Ending Stocks (176)"),
        ("Corn/US/1066/028", "it is served for market years"),
        ("Corn/US/2024/029", "its attributes are"),
        ("Corn/US/2024/028/tons", "is served in (1000 MT) (08); add the unit"),
        ("Corn/' OR 1=1 --/2024/028", "no country is called"),
    ],
)
def test_an_invalid_fact_is_refused_with_valid_ones(settings: Settings, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        explained(settings, text)
    assert message in str(refused.value)


def test_rows_that_are_not_here_are_a_notice(served_demo: ServedDemo, tmp_path: Any) -> None:
    data_dir = served_demo.copy(tmp_path / "data")
    landing = LocalLanding(data_dir / "landing")
    first, *others = landing.snapshots()
    landing.rows_path(first).unlink()
    landing.marker_path(others[-1].key).unlink()
    found = explain(Settings.from_environ({"MATERIA_DATA_DIR": str(data_dir)}), FACT, date(2100, 1, 1))
    assert [each.snapshot_key for each in found.shown] == [each.key for each in others[:-1]]
    assert any(f"the rows of {first.key} " in notice for notice in found.notices)
    assert any(f"contains {others[-1].key}, which is not landed" in notice for notice in found.notices)


def test_the_command_prints_the_evidence_as_text_and_as_json(served_demo: ServedDemo) -> None:
    shown = materia(served_demo.data_dir, "explain", 'Corn/"United States"/2024/Production')
    assert shown.returncode == Exit.DONE, shown.stderr
    printed = materia(served_demo.data_dir, "explain", FACT, "--json", "--as-of", "1990-01-01")
    found = json.loads(printed.stdout)
    assert (found["standing"], found["value"]) == ("unknown", None)
    assert found["fact"]["country"] == {"code": "US", "name": "United States"}
    assert "Production (028) of Corn (0440000) in United States (US), market year 2024, (1000 MT) (08)" in shown.stdout
    for each in found["shown"]:
        assert each["snapshot_key"] in shown.stdout
        assert each["sha256"] in shown.stdout
        assert f" {each['line']} " in shown.stdout
    wrong = materia(served_demo.data_dir, "explain", "Korn/US/2024/028")
    assert wrong.returncode == Exit.USAGE
    assert "near matches: Corn" in wrong.stderr


def file_of(day: str, value: float | None, stamp: str | None) -> FileEntry:
    return FileEntry(date.fromisoformat(day), day, "0" * 64, "psd.csv", 2, value, stamp, 1, True)


VERSIONS = (Version(1, 5.0, date(2025, 6, 12), None, date(2025, 9, 12)),)
JUNE = date(2025, 6, 12)
CORN = ReleaseStand(JUNE, JUNE, date(2025, 7, 11), None)
COFFEE = ReleaseStand(JUNE, JUNE, None, None)
CHECKED = ReleaseStand(JUNE, JUNE, None, date(2025, 8, 1))
LATE = ReleaseStand(JUNE, date(2025, 6, 20), date(2025, 7, 11), None)
OF_JUNE, OF_SEPTEMBER = ("2025-06-12", 5.0, "2025-06"), ("2025-09-12", 5.0, "2025-06")


@pytest.mark.parametrize(
    ("standing", "day", "stand", "files", "message"),
    [
        ("certain", "2025-06-12", COFFEE, [OF_JUNE], "shown: release 2025-06-12 shows 5 with stamp 2025-06"),
        ("certain", "2025-07-10", CORN, [OF_JUNE], "with stamp 2025-06; USDA releases no other before 2025-07-11"),
        ("certain", "2025-07-31", CHECKED, [OF_JUNE], "USDA's current file was still that release on 2025-08-01"),
        ("certain", "2025-07-20", COFFEE, [OF_JUNE, OF_SEPTEMBER], "untouched: "),
        ("certain", "2025-07-20", None, [OF_SEPTEMBER], "it is unchanged since 2025-06-30"),
        ("certain", "2025-06-20", COFFEE, [], "the evidence is not readable here"),
        (
            "uncertain",
            "2025-06-13",
            COFFEE,
            [OF_JUNE],
            "until 2025-06-12: USDA may update the commodity on any day",
        ),
        ("uncertain", "2025-07-11", CORN, [OF_JUNE], "until 2025-07-10: USDA's next release is due then"),
        ("uncertain", "2025-08-01", CHECKED, [OF_JUNE], "is certainly current only until 2025-07-31"),
        ("uncertain", "2025-06-15", LATE, [OF_JUNE], "it is evidence only from 2025-06-20 on"),
        ("uncertain", "2025-07-20", CORN, [OF_JUNE, ("2025-09-12", 5.0, "2025-09")], "changed back"),
        ("uncertain", "2025-07-20", CORN, [OF_JUNE, ("2025-09-12", 6.0, "2025-09")], "another value"),
        ("uncertain", "2025-07-20", CORN, [OF_JUNE], "is not landed"),
        ("unknown", "2025-01-01", None, [OF_JUNE], "no landed file shows the value before 2025-06-12"),
        ("absent", "2025-10-01", CORN, [("2025-09-30", None, None)], "release 2025-09-30 does not show it"),
    ],
)
def test_reasons_are_read_off_the_files_around_the_day(
    standing: str, day: str, stand: ReleaseStand | None, files: list[tuple[str, float | None, str | None]], message: str
) -> None:
    shown = [file_of(*each) for each in files]
    value = 5.0 if standing in ("certain", "uncertain") else None
    assert message in "; ".join(_reasons(standing, date.fromisoformat(day), value, VERSIONS, shown, stand, ()))


@pytest.mark.parametrize(
    ("reason", "end", "message"),
    [
        ("touched", date(2025, 8, 31), "touched: from 2025-07-11 to 2025-08-31 a posting that is not landed touched"),
        ("rekeyed", None, "rekeyed: from 2025-07-11 on USDA moved the commodity's market years"),
        ("unstamped", None, "unstamped: from 2025-07-11 on the stamp has month 00"),
    ],
)
def test_an_uncertain_span_is_named_first(reason: str, end: date | None, message: str) -> None:
    spans = (Span(reason, date(2025, 7, 11), end),)
    reasons = _reasons("uncertain", date(2025, 7, 20), 5.0, VERSIONS, [file_of(*OF_JUNE)], CORN, spans)
    assert next(reasons).startswith(message)


def test_values_are_printed_in_full() -> None:
    shown = [file_of("2025-06-12", 1234567.25, "2025-06")]
    assert "shows 1,234,567.25 with" in next(_reasons("certain", JUNE, 1234567.25, VERSIONS, shown, CORN, ()))


def test_a_month_of_00_is_no_stamp() -> None:
    shown = [file_of("2025-06-12", 5.0, "2025-00"), file_of("2025-09-12", 5.0, "2025-00")]
    reasons = "; ".join(_reasons("certain", JUNE, 5.0, VERSIONS, shown, COFFEE, ()))
    assert reasons == "shown: release 2025-06-12 shows 5 with stamp 2025-00"

import csv
import io
import json
import os
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from dataflows.landing.local import LocalLanding
from dataflows.source.probe_memory import LiveCheck
from ops.cli.query import sql_text
from ops.config.settings import Settings
from ops.host.exits import Exit
from ops.query.saved import SAVED, SavedQuery
from tests.support.command_line import MATERIA, materia, modules_of
from tests.support.served_demo import ServedDemo

CORN = "SELECT commodity_code, commodity_name FROM serving.dim_commodity WHERE commodity_code = '0440000'"


def test_a_query_is_answered_with_its_generation(served_demo: ServedDemo) -> None:
    shown = materia(served_demo.data_dir, "query", CORN)
    assert (shown.returncode, shown.stderr) == (Exit.DONE, "")
    lines = shown.stdout.splitlines()
    assert lines[:2] == ["commodity_code  commodity_name", "0440000         Corn"]
    assert lines[-1].startswith("generation 3, built ") and lines[-1].endswith(
        f"newest release {served_demo.rows('SELECT max(released_on) AS day FROM serving.dim_release')[0]['day']}"
    )


def test_a_table_shows_fifty_rows_and_counts_the_rest(served_demo: ServedDemo) -> None:
    [total] = served_demo.rows("SELECT count(*) AS facts FROM serving.fct_psd")
    shown = materia(served_demo.data_dir, "query", "FROM serving.fct_psd").stdout.splitlines()
    assert shown[51] == f"… {total['facts'] - 50:,} more rows; --limit {total['facts']} shows all"
    assert len(materia(served_demo.data_dir, "query", "FROM serving.fct_psd", "--limit", "2").stdout.splitlines()) == 6


def test_json_is_one_object_with_every_row(served_demo: ServedDemo) -> None:
    sql = "SELECT released_on, row_count, row_count::DECIMAL(18, 4) AS exact FROM serving.dim_release ORDER BY 1"
    shown = materia(served_demo.data_dir, "query", sql, "--json")
    answer = json.loads(shown.stdout)
    assert answer.keys() == {"generation", "columns", "more_rows", "rows"} and shown.stderr == ""
    assert answer["columns"] == ["released_on", "row_count", "exact"]
    expected = served_demo.rows(sql)
    assert answer["rows"] == [[str(row["released_on"]), row["row_count"], row["row_count"]] for row in expected]
    generation = answer["generation"]
    assert generation["number"] == 3 and generation["age_s"] > 0 and generation["created_at"].endswith("+00:00")
    assert generation["newest_released_on"] == str(expected[-1]["released_on"])
    limited = json.loads(materia(served_demo.data_dir, "query", sql, "--json", "--limit", "1").stdout)
    assert (len(limited["rows"]), limited["more_rows"]) == (1, 2)


def test_csv_is_pure_and_names_the_generation_on_stderr(served_demo: ServedDemo) -> None:
    sql = "SELECT commodity_name, value FROM serving.fct_psd"
    shown = materia(served_demo.data_dir, "query", "--csv", sql)
    lines = list(csv.reader(io.StringIO(shown.stdout)))
    [total] = served_demo.rows("SELECT count(*) AS facts, sum(value) AS total FROM serving.fct_psd")
    assert lines[0] == ["commodity_name", "value"] and len(lines) == 1 + total["facts"]
    assert sum(float(value) for _, value in lines[1:]) == pytest.approx(total["total"])
    assert shown.stderr.startswith("generation 3, built ")


def test_sql_comes_from_standard_input_too(served_demo: ServedDemo) -> None:
    shown = materia(served_demo.data_dir, "query", "-", stdin=f"-- which commodity\n{CORN};\n")
    assert shown.stdout.splitlines()[1].split() == ["0440000", "Corn"]


@pytest.mark.parametrize("saved", SAVED, ids=lambda saved: saved.name)
def test_a_saved_query_of_the_console_runs(served_demo: ServedDemo, saved: SavedQuery) -> None:
    shown = materia(served_demo.data_dir, "query", "--saved", saved.name, "--json")
    assert len(json.loads(shown.stdout)["rows"]) == len(served_demo.rows(saved.text(None)))


def test_a_saved_as_of_query_gets_the_last_check_of_the_current_file(served_demo: ServedDemo, tmp_path: Path) -> None:
    """Only of what is served."""
    settings = Settings.from_environ({"MATERIA_DATA_DIR": str(served_demo.copy(tmp_path / "data"))})
    landing = LocalLanding(settings.landing_dir)
    before, newest = landing.snapshots()[-2:]
    for snapshot, argument in ((newest, ", checked_on := DATE '2026-11-21'"), (before, "")):
        live = LiveCheck(date(2026, 11, 21), snapshot.key)
        landing.update_memory(settings.dataset, lambda memory, live=live: replace(memory, live=live))
        sql = sql_text(None, "coverage", settings)
        assert f"serving.psd_asof_coverage(DATE '2021-12-31'{argument})" in sql


def test_saved_queries_are_listed_and_json_has_their_sql(served_demo: ServedDemo) -> None:
    listed = materia(served_demo.data_dir, "query", "--list").stdout.splitlines()
    saved = json.loads(materia(served_demo.data_dir, "query", "--list", "--json").stdout)
    assert [line.split()[0] for line in listed[1:]] == [each["name"] for each in saved] == [each.name for each in SAVED]
    assert saved[0]["sql"].strip().startswith("SELECT")


def test_a_plan_is_shown_as_it_is_drawn(served_demo: ServedDemo) -> None:
    shown = materia(served_demo.data_dir, "query", f"EXPLAIN {CORN}").stdout
    assert shown.startswith("┌") and "explain_key" not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["SELEC 1"], Exit.FAILED, "syntax error"),
        (["SELECT nothing FROM serving.fct_psd"], Exit.FAILED, '"nothing"'),
        (["DROP TABLE serving.fct_psd"], Exit.FAILED, "only one SELECT"),
        (["SELECT 1; SELECT 2"], Exit.FAILED, "2 statements"),
        (["FROM read_text('/etc/passwd')"], Exit.FAILED, "may not be called"),
        (["SELECT count(*) FROM range(1000000000000)", "--timeout", "0.3"], Exit.FAILED, "stopped after 0.3 s"),
        (["SELECT 1", "--csv", "--json"], Exit.USAGE, "cannot be combined"),
        (["SELECT 1", "--limit", "0"], Exit.USAGE, "--limit"),
        ([], Exit.USAGE, "--saved NAME"),
        (["SELECT 1", "--saved", "coverage"], Exit.USAGE, "--saved NAME"),
        (["--saved", "no-such"], Exit.USAGE, "'largest-revisions'"),
    ],
)
def test_an_invalid_query_exits_with_its_reason(
    served_demo: ServedDemo, arguments: list[str], code: Exit, text: str
) -> None:
    shown = materia(served_demo.data_dir, "query", *arguments)
    assert (shown.returncode, shown.stdout) == (code, "")
    assert text in shown.stderr and "Traceback" not in shown.stderr


def test_nothing_served_is_reported_with_the_next_step(tmp_path: Path) -> None:
    shown = materia(tmp_path, "query", "SELECT 1")
    assert shown.returncode == Exit.FAILED
    assert "nothing is served at" in shown.stderr and "materia run-all" in shown.stderr


def test_a_query_needs_no_pandas(served_demo: ServedDemo) -> None:
    modules = modules_of(served_demo.data_dir, "query", "--json", "FROM serving.dim_release")
    assert "pyarrow" in modules and not modules & {"duckdb", "pandas", "sqlmesh", "hamilton"}


def test_a_reader_who_has_enough_makes_no_error(served_demo: ServedDemo) -> None:
    shown = subprocess.run(
        f"{MATERIA} query --csv 'FROM serving.fct_psd' | head -n 1",
        shell=True,
        env={**os.environ, "MATERIA_DATA_DIR": str(served_demo.data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shown.stdout.startswith("commodity_code,") and shown.stderr == ""

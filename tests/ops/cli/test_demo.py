import json
import re
from pathlib import Path

from ops.host.exits import Exit
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tests.support.command_line import materia
from tests.support.served_demo import ServedDemo


def figures(line: str) -> list[float]:
    return [float(text.replace(",", "")) for text in re.findall(r"(?<=\s)[+-]?\d[\d,.]*(?=\s)", line)]


def test_the_demo_prints_its_steps_in_order(served_demo: ServedDemo) -> None:
    first, middle, last = served_demo.spec.months
    work = [line for line in served_demo.stdout.splitlines() if re.match(r"\d  ", line)]
    assert [line[3:] for line in work] == [
        f"generate 3 monthly releases, {first} to {last}, and post them on a loopback archive",
        f"land, transform and publish the first, {first}",
        "backfill the next",
        f"run everything on release day, {last}",
        "run everything again, with nothing new posted",
    ]
    assert f"nothing new: {last} of " in served_demo.stdout and str(middle) not in "".join(work)


def test_the_world_balance_is_what_is_served(served_demo: ServedDemo) -> None:
    lines = served_demo.stdout.splitlines()
    [balance] = served_demo.rows(
        "SELECT max(market_year) AS later, arg_max(value, market_year) AS value FROM serving.agg_world_balance "
        "WHERE commodity_code = '0440000' AND attribute_id = '028'"
    )
    later = balance["later"]
    assert f"Corn: the world balance, market years {later - 1} and {later}" in lines
    production = next(line for line in lines if line.startswith("Production"))
    assert figures(production)[1] == balance["value"]
    attributes = [line.split("  ")[0] for line in lines if line.endswith(("1000 MT", "1000 HA", "MT/HA"))]
    assert attributes[:4] == ["Area Harvested", "Yield", "Beginning Stocks", "Production"]


def test_the_largest_revisions_are_among_those_of_the_last_release(served_demo: ServedDemo) -> None:
    revised = {
        (row["commodity_name"], row["country_name"], row["market_year"], row["previous_value"], row["value"])
        for row in served_demo.rows(
            "SELECT * FROM serving.fct_psd_revision WHERE change_kind = 'revised' "
            "AND released_on = (SELECT max(released_on) FROM serving.dim_release)"
        )
    }
    shown = [re.split(r"\s{2,}", line) for line in served_demo.stdout.splitlines() if "→" in line]
    assert 1 <= len(shown) <= 8
    for commodity, country, year, _, before, _, after, *_ in shown:
        fact = commodity, country, int(year), float(before.replace(",", "")), float(after.replace(",", ""))
        assert fact in revised
    assert "restated: Coffee, Green" in served_demo.stdout


def test_one_fact_is_shown_as_of_three_dates(served_demo: ServedDemo) -> None:
    lines = served_demo.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("as of"))
    answers = [line.split()[:3] for line in lines[start + 1 : start + 4]]
    assert [certainty for _, _, certainty in answers] == ["certain", "uncertain", "certain"]
    days = [row["released_on"] for row in served_demo.rows("SELECT released_on FROM serving.dim_release ORDER BY 1")]
    assert answers[0][0] == str(days[0]) and answers[-1][0] == str(days[-1]) and str(days[0]) < answers[1][0]
    assert len({value for _, value, _ in answers}) >= 2
    heading = next(line for line in lines if line.startswith("What did USDA say? "))
    # Either name may have a comma in it: `European Union, Oilseed, Rapeseed`, `Korea, South, Corn`.
    names, year = re.fullmatch(r"What did USDA say\? (.+), production of (\d{4})", heading).groups()
    quoted = names.replace("'", "''")
    for day, value, certain in answers:
        [row] = served_demo.rows(
            f"SELECT value, certain FROM serving.psd_asof(DATE '{day}') WHERE attribute_id = '028' "
            f"AND market_year = {year} AND country_name || ', ' || commodity_name = '{quoted}'"
        )
        assert (float(value.replace(",", "")), certain == "certain") == (row["value"], row["certain"])


def test_the_demo_ran_the_real_pipelines_and_left_all_well(served_demo: ServedDemo) -> None:
    with Journal(served_demo.data_dir / "runs.sqlite") as journal:
        runs = journal.runs(100)
    assert {run.status for run in runs} == {RunStatus.DONE}
    top = [(run.pipeline, run.trigger) for run in reversed(runs) if run.parent_id is None]
    assert top == [("run-all", "demo"), ("backfill", "demo"), ("run-all", "demo"), ("run-all", "demo")]
    status = json.loads(materia(served_demo.data_dir, "status", "--json").stdout)
    assert (status["ok"], status["generation"]["number"]) == (True, 3)


def test_the_demo_prints_the_next_commands(served_demo: ServedDemo) -> None:
    assert f"MATERIA_DATA_DIR={served_demo.data_dir}" in served_demo.stdout
    for command in ("materia releases", "materia query", "materia-tui"):
        assert f" {command}" in served_demo.stdout
    assert "open the console?" not in served_demo.stdout
    assert not served_demo.data_dir.with_name("not-used").exists()


def test_the_demo_stays_out_of_a_directory_that_it_did_not_make(tmp_path: Path) -> None:
    precious = tmp_path / "demo" / "precious"
    precious.parent.mkdir()
    precious.write_text("mine")
    shown = materia(tmp_path, "demo")
    assert (shown.returncode, shown.stdout) == (Exit.USAGE, "")
    assert str(precious.parent) in shown.stderr and precious.read_text() == "mine"


def test_an_impossible_demo_is_refused_before_it_writes(tmp_path: Path) -> None:
    shown = materia(tmp_path, "demo", "--dataset", "psd_unheard_of")
    assert shown.returncode == Exit.USAGE and "psd_unheard_of" in shown.stderr
    assert materia(tmp_path, "demo", "--releases", "1").returncode == Exit.USAGE
    assert list(tmp_path.iterdir()) == []

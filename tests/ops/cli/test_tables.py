import json

from dataflows.serving.build import SERVING_TABLES
from dataflows.serving.database import MACROS
from ops.host.exits import Exit
from tests.support.command_line import materia
from tests.support.served_demo import ServedDemo


def test_every_table_and_macro_is_listed_with_its_rows_and_comment(served_demo: ServedDemo) -> None:
    answer = json.loads(materia(served_demo.data_dir, "tables", "--json").stdout)
    assert answer["generation"] == 3
    listed = {row["name"].partition("(")[0]: row for row in answer["tables"]}
    assert listed.keys() == {*SERVING_TABLES, "generation", *(call.partition("(")[0] for call in MACROS)}
    assert all(row["comment"] for row in listed.values())
    for table in SERVING_TABLES:
        [counted] = served_demo.rows(f"SELECT COUNT(*) AS rows FROM serving.{table}")
        assert listed[table]["rows"] == counted["rows"], table
    lines = materia(served_demo.data_dir, "tables").stdout.splitlines()
    assert lines[0].split() == ["name", "rows", "comment"]
    assert len(lines) == len(listed) + 3 and lines[-1].startswith("generation 3, built ")


def test_the_columns_of_a_table_are_described(served_demo: ServedDemo) -> None:
    answer = json.loads(materia(served_demo.data_dir, "tables", "serving.fct_metric", "--json").stdout)
    assert all(column["comment"] for column in answer["columns"])
    [ratio] = [column for column in answer["columns"] if column["name"] == "stocks_to_use"]
    assert ratio["type"] == "DOUBLE" and "ending_stocks / (use_total + exports)" in ratio["comment"]


def test_a_macro_is_described_with_the_columns_of_its_answer(served_demo: ServedDemo) -> None:
    for call in MACROS:
        name = call.partition("(")[0]
        shown = materia(served_demo.data_dir, "tables", name, "--json")
        head, *columns = json.loads(shown.stdout)["columns"]
        assert head["name"].startswith(f"{name}(") and MACROS[call] in head["comment"]
        assert ("commodity_name" in [column["name"] for column in columns]) == (name != "convert")


def test_an_unknown_name_is_answered_with_near_ones(served_demo: ServedDemo) -> None:
    shown = materia(served_demo.data_dir, "tables", "fct_metrics")
    assert shown.returncode == Exit.USAGE
    assert "no table or macro is called 'fct_metrics'; near matches: fct_metric" in shown.stderr


def test_names_work_in_every_table_and_macro_about_a_commodity(served_demo: ServedDemo) -> None:
    tables = json.loads(materia(served_demo.data_dir, "tables", "--json").stdout)["tables"]
    others = {"dim_country", "dim_country_group", "dim_attribute", "dim_unit", "dim_release", "generation"}
    names = {row["name"] for row in tables if "(" not in row["name"]} - others
    calls = {
        *("psd_asof(now())", "psd_known(now())", "psd_asof_all(now())", "psd_asof_coverage(now())"),
        *("group_asof('WORLD', now())", "metric_asof(now())", "estimate_path('Corn', 'US', 2025, '028')"),
    }
    for relation in names | calls:
        query = f"SELECT COUNT(*) AS rows FROM serving.{relation} WHERE commodity_name = 'Corn'"
        [counted] = served_demo.rows(query)
        # Nothing of corn is uncertain by its stamps in the demo, and psd_known(now()) depends on the day.
        assert counted["rows"] > 0 or relation in ("fct_uncertain_span", "psd_known(now())"), relation

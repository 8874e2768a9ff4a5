"""The macro `convert`: constants against published ones, impossible conversions, wrong names."""

import csv

import duckdb
import pytest

from dataflows.lakehouse.transform import PROJECT_DIR
from dataflows.serving.units import convert_macro

WHEAT, CORN, RICE, SOYBEANS, COFFEE, COTTON = "0410000", "0440000", "0422110", "2222000", "0711100", "2631000"


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA serving")
    connection.execute(convert_macro("serving"))
    return connection


def convert(
    connection: duckdb.DuckDBPyConnection, value: float, unit: str, commodity: str, to_unit: str
) -> float | None:
    call = f"SELECT serving.convert({value}, '{unit}', '{commodity}', '{to_unit}')"
    ((found,),) = connection.execute(call).fetchall()
    return found


@pytest.mark.parametrize(
    ("value", "unit", "commodity", "to_unit", "expected"),
    [
        # Bushels a tonne: 36.7437 of wheat and soybeans, 39.368 of corn (USDA's conversion tables).
        (1, "08", WHEAT, "bushels", 36_743.7),
        (1, "08", SOYBEANS, "Bushel", 36_743.7),
        (1, "08", CORN, "bu", 39_368.3),
        (15_115, "million bushels", CORN, "08", 383_939),
        (1, "(1000 60 KG BAGS)", COFFEE, "tonnes", 60),
        (1, "02", COFFEE, "60-kg bags", 1000),
        (1, "27", COTTON, "(1000 MT)", 0.217724),
        (1, "27", COTTON, "480 lb bales", 1000),
        (1, "08", CORN, "short tons", 1102.311),
        (1, "08", RICE, "hundredweight", 22_046.2),
        (1, "08", RICE, "million lbs", 2.20462),
        (1, "04", CORN, "acres", 2471.05),
        (11.11, "26", CORN, "bushels/acre", 177.002),
        (1000, "29", COTTON, "pounds/acre", 892.179),
        (25, "23", CORN, "(RATIO)", 0.25),
    ],
)
def test_a_value_is_given_in_another_unit(
    connection: duckdb.DuckDBPyConnection, value: float, unit: str, commodity: str, to_unit: str, expected: float
) -> None:
    assert convert(connection, value, unit, commodity, to_unit) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("unit", "commodity", "to_unit"),
    [
        ("04", CORN, "tonnes"),
        ("08", COFFEE, "bushels"),
        ("08", RICE, "bushels"),
        ("05", CORN, "(1000 MT)"),
        ("33", RICE, "tonnes"),
        ("99", CORN, "tonnes"),
    ],
    ids=["area", "no bushel", "milled rice", "heads", "rate", "a code that USDA added"],
)
def test_an_impossible_conversion_is_null(
    connection: duckdb.DuckDBPyConnection, unit: str, commodity: str, to_unit: str
) -> None:
    assert convert(connection, 1, unit, commodity, to_unit) is None


@pytest.mark.parametrize(
    ("unit", "to_unit", "named"), [("08", "bushles", "bushles"), ("metric tonne", "t", "metric tonne")]
)
def test_a_wrong_name_is_an_error(connection: duckdb.DuckDBPyConnection, unit: str, to_unit: str, named: str) -> None:
    with pytest.raises(duckdb.Error, match=f"no unit {named}; serving.dim_unit lists them"):
        convert(connection, 1, unit, CORN, to_unit)


def test_an_error_is_raised_for_a_wrong_name_also_where_no_value_is(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error, match="no unit bushles"):
        connection.execute(f"SELECT serving.convert(NULL::DOUBLE, '08', '{CORN}', 'bushles')").fetchall()
    missing = connection.execute(f"SELECT serving.convert(NULL::DOUBLE, '08', '{CORN}', 'bushels')").fetchall()
    assert missing == connection.execute("SELECT serving.convert(1, NULL, NULL, 'bushels')").fetchall() == [(None,)]


def test_every_unit_has_names_of_its_own_and_converts_to_itself(connection: duckdb.DuckDBPyConnection) -> None:
    with (PROJECT_DIR / "seeds/units.csv").open() as file:
        units = list(csv.DictReader(file))
    names: dict[str, str] = {}
    for unit in units:
        for name in (unit["unit_name"], *filter(None, unit["other_names"].split("|"))):
            # USDA writes code 36 as Bushels and 31 as BUSHELS.
            assert names.setdefault(name.lower(), unit["unit_id"]) == unit["unit_id"] or unit["unit_id"] == "36", name
        is_rate = not unit["factor_to_base"] and not unit["bushels"]
        assert convert(connection, 3, unit["unit_id"], CORN, unit["unit_name"]) == (
            None if is_rate else pytest.approx(3)
        )

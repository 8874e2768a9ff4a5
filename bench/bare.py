"""The same work in bare DuckDB: one script, no lineage, no audits, no history beyond these zips.

This is the floor that the pipelines are measured against. It reads USDA's zips, compares each release with the one
before, keeps versions with their validity, and writes the serving tables to a database file.

    python -m bench.bare OUT.duckdb ZIP [ZIP ...]
"""

import sys
import zipfile
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from transform.sqlmesh_materia.macros.attribute_list import COLUMN_OF_ATTRIBUTE, RATES

_COLUMNS = {
    "commodity_code": "VARCHAR",
    "commodity_name": "VARCHAR",
    "country_code": "VARCHAR",
    "country_name": "VARCHAR",
    "market_year": "SMALLINT",
    "calendar_year": "SMALLINT",
    "month": "SMALLINT",
    "attribute_id": "VARCHAR",
    "attribute_name": "VARCHAR",
    "unit_id": "VARCHAR",
    "unit_name": "VARCHAR",
    "value": "DECIMAL(18,4)",
}


def main(out: Path, zips: list[Path]) -> None:
    out.unlink(missing_ok=True)
    con = duckdb.connect(str(out))
    con.execute("SET preserve_insertion_order = false")
    con.execute("CREATE SCHEMA serving")
    con.execute(
        "CREATE TABLE change (released_on DATE, compared_with DATE, commodity_code VARCHAR, country_code VARCHAR,"
        " market_year SMALLINT, attribute_id VARCHAR, unit_id VARCHAR, value DECIMAL(18,4),"
        " previous_value DECIMAL(18,4), reported_month DATE, valid_from DATE)"
    )
    previous: date | None = None
    for path in zips:
        previous = _compare(con, path, previous)
    _serve(con)
    con.execute("DROP TABLE change; DROP TABLE shown; CHECKPOINT")
    con.close()


def _compare(con: duckdb.DuckDBPyConnection, path: Path, previous: date | None) -> date:
    with TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        info = archive.infolist()[0]
        released_on = date(*info.date_time[:3])
        csv = archive.extract(info, folder)
        con.execute(
            f"CREATE OR REPLACE TABLE shown_now AS FROM read_csv('{csv}', header=true, auto_detect=false,"
            f" delim=',', quote='\"', columns={_COLUMNS})"
        )
    if previous is None:
        con.execute("CREATE TABLE shown AS FROM shown_now LIMIT 0")
    before = f"DATE '{previous}'" if previous else "NULL::DATE"
    key = "commodity_code, country_code, market_year, attribute_id, unit_id"
    con.execute(
        f"INSERT INTO change SELECT DATE '{released_on}', {before}, {key}, now.value, was.value,"
        " CASE WHEN now.month > 0 THEN make_date(now.calendar_year, now.month, 1) END AS reported_month,"
        f" CASE WHEN now.value IS NULL THEN DATE '{released_on}' ELSE greatest(least(DATE '{released_on}',"
        f" last_day(reported_month)), {before} + 1) END"
        f" FROM shown_now AS now FULL JOIN shown AS was USING ({key}) WHERE now.value IS DISTINCT FROM was.value"
    )
    con.execute("DROP TABLE shown; ALTER TABLE shown_now RENAME TO shown")
    return released_on


def _serve(con: duckdb.DuckDBPyConnection) -> None:
    key = "commodity_code, country_code, market_year, attribute_id, unit_id"
    for what in ("commodity", "country", "attribute"):
        code = f"{what}_id" if what == "attribute" else f"{what}_code"
        con.execute(
            f"CREATE TABLE serving.dim_{what} AS SELECT {code}, any_value({what}_name) AS {what}_name"
            f" FROM shown GROUP BY {code}"
        )
    con.execute("CREATE TEMP TABLE unit AS SELECT unit_id, any_value(unit_name) AS unit_name FROM shown GROUP BY 1")
    con.execute(
        f"CREATE TABLE serving.fct_psd AS SELECT {key}, unit_name, value::DOUBLE AS value, reported_month,"
        " valid_from, valid_to, coalesce(seen, (SELECT max(released_on) FROM change)) AS last_seen_on FROM ("
        " SELECT *, lead(valid_from) OVER fact AS valid_to, lead(compared_with) OVER fact AS seen FROM change"
        f" WINDOW fact AS (PARTITION BY {key} ORDER BY released_on)) JOIN unit USING (unit_id)"
        " WHERE value IS NOT NULL"
    )
    con.execute(
        f"CREATE TABLE serving.fct_psd_revision AS SELECT {key}, released_on, CASE WHEN value IS NULL THEN 'removed'"
        " WHEN previous_value IS NULL THEN 'new' ELSE 'revised' END AS change_kind, previous_value, value,"
        " value - previous_value AS change FROM change WHERE compared_with IS NOT NULL"
    )
    con.execute(
        "CREATE TABLE serving.agg_release_summary AS SELECT released_on, commodity_code,"
        " count(*) FILTER (change_kind = 'new') AS facts_new,"
        " count(*) FILTER (change_kind = 'revised') AS facts_revised,"
        " count(*) FILTER (change_kind = 'removed') AS facts_removed FROM serving.fct_psd_revision GROUP BY ALL"
    )
    values, units, columns = zip(
        *(
            (
                f'max(value) FILTER (attribute = {number}) AS "{column}"',
                f'max(unit_name) FILTER (attribute = {number}) AS "{column}_unit"',
                f'"{column}", "{column}_unit"',
            )
            for number, column in COLUMN_OF_ATTRIBUTE.items()
        ),
        strict=True,
    )
    con.execute(
        "CREATE TABLE serving.obt_commodity_metrics AS WITH fact AS ("
        " SELECT *, attribute_id::SMALLINT AS attribute FROM shown), sheet AS ("
        f" SELECT commodity_code, country_code, market_year, {', '.join(values)} FROM fact GROUP BY 1, 2, 3), unit AS ("
        f" SELECT commodity_code, {', '.join(units)}"
        " FROM (SELECT DISTINCT commodity_code, attribute, unit_name FROM fact) GROUP BY 1)"
        " SELECT commodity_code, commodity_name, country_code, country_name, market_year,"
        f" {', '.join(columns)} FROM sheet JOIN unit USING (commodity_code)"
        " JOIN serving.dim_commodity USING (commodity_code) JOIN serving.dim_country USING (country_code)"
    )
    rates = ", ".join(f"'{number:03d}'" for number in RATES)
    con.execute(
        "CREATE TABLE serving.agg_world_balance AS SELECT commodity_code, commodity_name, market_year, attribute_id,"
        " attribute_name, unit_name, sum(value)::DOUBLE AS value FROM shown"
        f" WHERE attribute_id NOT IN ({rates}) GROUP BY ALL"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])

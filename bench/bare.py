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

from dataflows.serving.asof_groups import metric_query
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


_SEEDS = Path(__file__).parents[1] / "transform/sqlmesh_materia/seeds"
_NAMES = "commodity_name, country_name, attribute_name"
_JOINS = (
    "JOIN serving.dim_commodity USING (commodity_code) JOIN serving.dim_country USING (country_code)"
    " JOIN serving.dim_attribute USING (attribute_id)"
)
_OF_METRICS = "'004', '020', '028', '054', '057', '086', '088', '125', '142', '176', '184'"


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
    con.execute(
        "ALTER TABLE serving.dim_country RENAME TO named; CREATE TABLE serving.dim_country AS"
        " SELECT country_code, named.country_name, iso3, region_name, kind FROM serving.named"
        f" LEFT JOIN read_csv('{_SEEDS / 'countries.csv'}') USING (country_code); DROP TABLE serving.named"
    )
    con.execute(f"CREATE TABLE serving.dim_unit AS FROM read_csv('{_SEEDS / 'units.csv'}')")
    con.execute(
        "CREATE TABLE serving.dim_country_group AS SELECT 'WORLD' AS group_code, 'World' AS group_name,"
        " NULL::VARCHAR AS commodity_code, country_code, country_name, NULL::SMALLINT AS from_market_year,"
        " NULL::SMALLINT AS to_market_year FROM serving.dim_country UNION ALL SELECT 'WORLD_LESS_CHINA',"
        " 'World less China', NULL, country_code, country_name, NULL, NULL FROM serving.dim_country"
        " WHERE country_code <> 'CH' UNION ALL SELECT group_code, group_name, nullif(commodity_code, 'ALL'),"
        " country_code, country_name, from_market_year, to_market_year"
        f" FROM read_csv('{_SEEDS / 'country_groups.csv'}') LEFT JOIN serving.dim_country USING (country_code)"
    )
    con.execute("CREATE TEMP TABLE unit AS SELECT unit_id, any_value(unit_name) AS unit_name FROM shown GROUP BY 1")
    con.execute(
        f"CREATE TABLE serving.fct_psd AS SELECT {key}, {_NAMES}, unit_name, value::DOUBLE AS value, reported_month,"
        " valid_from, valid_to, coalesce(seen, (SELECT max(released_on) FROM change)) AS last_seen_on FROM ("
        " SELECT *, lead(valid_from) OVER fact AS valid_to, lead(compared_with) OVER fact AS seen FROM change"
        f" WINDOW fact AS (PARTITION BY {key} ORDER BY released_on)) JOIN unit USING (unit_id)"
        f" {_JOINS}"
        " WHERE value IS NOT NULL"
    )
    con.execute(
        f"CREATE TABLE serving.fct_psd_revision AS SELECT {key}, {_NAMES}, released_on,"
        " CASE WHEN value IS NULL THEN 'removed'"
        " WHEN previous_value IS NULL THEN 'new' ELSE 'revised' END AS change_kind, previous_value, value,"
        f" value - previous_value AS change FROM change {_JOINS} WHERE compared_with IS NOT NULL"
    )
    con.execute(
        "CREATE TABLE serving.agg_release_summary AS SELECT released_on, commodity_code, commodity_name,"
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
        "CREATE TEMP TABLE member AS SELECT group_code, group_name, c.commodity_code, country_code,"
        " coalesce(from_market_year, 0) AS from_year, coalesce(to_market_year, 9999) AS to_year"
        " FROM serving.dim_country_group AS g JOIN serving.dim_commodity AS c"
        " ON coalesce(g.commodity_code, c.commodity_code) = c.commodity_code WHERE g.commodity_code IS NOT NULL OR"
        " (group_code, c.commodity_code) NOT IN (SELECT (group_code, commodity_code) FROM serving.dim_country_group"
        " WHERE commodity_code IS NOT NULL)"
    )
    con.execute(
        "CREATE TEMP TABLE roll AS SELECT group_code, commodity_code, y.market_year,"
        " count(s.country_code) AS countries, count(*) FILTER (s.country_code IS NULL AND group_code NOT LIKE 'WORLD%')"
        " AS countries_missing"
        " FROM (SELECT DISTINCT commodity_code, market_year FROM shown) AS y JOIN member USING (commodity_code)"
        " LEFT JOIN (SELECT DISTINCT commodity_code, country_code, market_year FROM shown) AS s"
        " USING (commodity_code, country_code, market_year)"
        " WHERE y.market_year BETWEEN from_year AND to_year GROUP BY ALL"
    )
    con.execute(
        "CREATE TABLE serving.agg_group_balance AS WITH added AS (SELECT group_code, group_name, commodity_code,"
        " commodity_name, market_year, attribute_id, attribute_name, unit_id, unit_name, sum(value)::DOUBLE AS total"
        f" FROM shown JOIN member USING (commodity_code, country_code) WHERE attribute_id NOT IN ({rates})"
        " AND market_year BETWEEN from_year AND to_year GROUP BY ALL), used AS (SELECT group_code, commodity_code,"
        " market_year, sum(CASE WHEN attribute_id IN ('088', '176') THEN -total ELSE total END) AS used,"
        " sum(CASE attribute_id WHEN '088' THEN total WHEN '057' THEN -total ELSE 0 END) AS surplus FROM added"
        " WHERE attribute_id IN ('020', '028', '057', '088', '176') GROUP BY ALL)"
        " SELECT added.* EXCLUDE (total), CASE WHEN countries_missing = 0 THEN total END AS value,"
        " total AS partial_value, countries, countries_missing, CASE WHEN countries_missing = 0 AND unit_id = '08' THEN"
        " used.used + CASE WHEN added.group_code LIKE 'WORLD%' THEN world.surplus ELSE 0 END END AS implied_use"
        " FROM added JOIN roll USING (group_code, commodity_code, market_year)"
        " JOIN used USING (group_code, commodity_code, market_year)"
        " LEFT JOIN used AS world ON world.group_code = 'WORLD' AND world.commodity_code = added.commodity_code"
        " AND world.market_year = added.market_year"
    )
    con.execute(
        "CREATE TABLE serving.agg_world_balance AS SELECT commodity_code, commodity_name, market_year, attribute_id,"
        " attribute_name, unit_name, value, countries, implied_use FROM serving.agg_group_balance"
        " WHERE group_code = 'WORLD'"
    )
    con.execute(
        "CREATE TABLE serving.fct_metric AS WITH fact AS (SELECT commodity_code, country_code, NULL AS group_code,"
        " market_year, attribute_id, unit_id, value::DOUBLE AS value, NULL AS implied_use, 0 AS missing,"
        f" TRUE AS is_certain FROM shown WHERE attribute_id IN ({_OF_METRICS}) UNION ALL SELECT commodity_code, NULL,"
        " group_code, market_year, attribute_id, unit_id, value, implied_use, countries_missing, TRUE"
        f" FROM serving.agg_group_balance WHERE attribute_id IN ({_OF_METRICS})), {metric_query('serving')}"
        " SELECT * EXCLUDE (certain_in_year, certain_history) FROM final"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])

"""The macros that add up groups of countries, and compute metrics, as of a day.

No sum is silently partial: a sum that lacks a member, or a fact that is unknown on the day, is NULL; `partial_value`
has the sum of the others and `countries_missing` says how many lack. `serving.agg_group_balance` and
`serving.fct_metric` hold the same figures of the newest release.
"""

from typing import Final

from dataflows.lakehouse.transform import PROJECT_DIR

_CODES: Final = {
    "rates": "'181', '182', '183', '184', '195'",
    "rate_units": "'11', '23', '24', '26', '28', '29', '33', '34', '35', '42'",
    "sheet_attributes": "'020', '028', '057', '088', '176'",
    "metric_attributes": "'004', '020', '028', '054', '057', '086', '088', '125', '142', '176', '184'",
}
"""As in the models and their macros/attribute_list.py; a test compares the sums."""

_GROUPS: Final = """
CREATE OR REPLACE MACRO {schema}.group_asof(of_group, day, checked_on := '{never}') AS TABLE
WITH fact AS (
  SELECT * FROM {schema}.psd_asof_all(day, checked_on := checked_on) WHERE standing <> 'absent'
), sheet AS (
  SELECT commodity_code, country_code, market_year, COUNT(value) > 0 AS is_shown
  FROM fact GROUP BY ALL
), own AS (
  SELECT DISTINCT group_code, commodity_code FROM {schema}.dim_country_group
), member AS (
  SELECT grouping.group_code, grouping.group_name, commodity.commodity_code, commodity.commodity_name,
    grouping.country_code, COALESCE(from_market_year, 0) AS from_year, COALESCE(to_market_year, 9999) AS to_year,
    grouping.group_code LIKE 'WORLD%' AS is_world
  FROM {schema}.dim_country_group AS grouping
  JOIN {schema}.dim_commodity AS commodity
    ON COALESCE(grouping.commodity_code, commodity.commodity_code) = commodity.commodity_code
  LEFT JOIN own ON grouping.group_code = own.group_code AND commodity.commodity_code = own.commodity_code
  WHERE grouping.commodity_code IS NOT NULL OR own.group_code IS NULL
), roll AS (
  SELECT group_code, commodity_code, year.market_year, ANY_VALUE(group_name) AS group_name,
    ANY_VALUE(commodity_name) AS commodity_name, ANY_VALUE(is_world) AS is_world,
    COUNT(*) FILTER (NOT is_world OR sheet.country_code IS NOT NULL) AS members,
    COUNT(*) FILTER (is_shown) AS countries
  FROM (SELECT DISTINCT commodity_code, market_year FROM sheet) AS year
  JOIN member USING (commodity_code)
  LEFT JOIN sheet USING (commodity_code, country_code, market_year)
  WHERE year.market_year BETWEEN from_year AND to_year
  GROUP BY group_code, commodity_code, year.market_year
), added AS (
  SELECT group_code, fact.commodity_code, fact.market_year, attribute_id, unit_id,
    ANY_VALUE(attribute_name) AS attribute_name, ANY_VALUE(unit_name) AS unit_name,
    SUM(value::DECIMAL(18, 4)) AS value, COUNT(*) FILTER (standing = 'unknown' AND is_shown) AS facts_missing,
    BOOL_AND(standing <> 'uncertain') AS is_certain
  FROM fact
  JOIN member ON fact.commodity_code = member.commodity_code AND fact.country_code = member.country_code
    AND fact.market_year BETWEEN from_year AND to_year
  JOIN sheet ON fact.commodity_code = sheet.commodity_code AND fact.country_code = sheet.country_code
    AND fact.market_year = sheet.market_year
  WHERE attribute_id NOT IN ({rates}) AND unit_id NOT IN ({rate_units})
  GROUP BY ALL
), total AS (
  SELECT group_code, commodity_code, market_year,
    MAX(value) FILTER (attribute_id = '020') + MAX(value) FILTER (attribute_id = '028')
      - MAX(value) FILTER (attribute_id = '176') AS drawn,
    COALESCE(MAX(value) FILTER (attribute_id = '057'), 0) AS imports,
    COALESCE(MAX(value) FILTER (attribute_id = '088'), 0) AS exports,
    MAX(unit_id) FILTER (attribute_id = '028') AS production_unit,
    BOOL_AND(is_certain) FILTER (attribute_id IN ({sheet_attributes})) AS is_certain,
    SUM(facts_missing) FILTER (attribute_id IN ({sheet_attributes})) AS facts_missing
  FROM added GROUP BY ALL
)
SELECT
  added.group_code, group_name, added.commodity_code, commodity_name, added.market_year, attribute_id, attribute_name,
  unit_id, unit_name,
  CASE WHEN members = countries AND added.facts_missing = 0 THEN added.value END::DOUBLE AS value,
  added.value::DOUBLE AS partial_value,
  (countries - added.facts_missing)::INT AS countries,
  (members - countries + added.facts_missing)::INT AS countries_missing,
  CASE WHEN members = countries AND total.facts_missing = 0 AND unit_id = total.production_unit THEN
    total.drawn + total.imports - total.exports
    + CASE WHEN is_world AND world.facts_missing = 0 THEN world.exports - world.imports WHEN NOT is_world THEN 0 END
  END::DOUBLE AS implied_use,
  members = countries AND added.facts_missing = 0 AND added.is_certain
    AND (unit_id <> total.production_unit OR total.is_certain) AS certain
FROM added
JOIN roll ON added.group_code = roll.group_code AND added.commodity_code = roll.commodity_code
  AND added.market_year = roll.market_year
JOIN total ON added.group_code = total.group_code AND added.commodity_code = total.commodity_code
  AND added.market_year = total.market_year
LEFT JOIN total AS world ON world.group_code = 'WORLD' AND added.commodity_code = world.commodity_code
  AND added.market_year = world.market_year
WHERE added.group_code = COALESCE(UPPER(of_group), added.group_code) AND (
  SELECT CASE WHEN of_group IS NULL OR COUNT(*) > 0 THEN TRUE
    ELSE error('no group ' || of_group || '; SELECT DISTINCT group_code FROM serving.dim_country_group lists them') END
  FROM {schema}.dim_country_group WHERE group_code = UPPER(of_group)
) AND {check}{group_guard}
"""

_METRICS: Final = """
CREATE OR REPLACE MACRO {schema}.metric_asof(day, checked_on := '{never}') AS TABLE
WITH fact AS (
  SELECT commodity_code, country_code, NULL AS group_code, market_year, attribute_id, unit_id, value,
    NULL AS implied_use, (standing = 'unknown')::INT AS missing, standing <> 'uncertain' AS is_certain
  FROM {schema}.psd_asof_all(day, checked_on := checked_on)
  WHERE standing <> 'absent' AND attribute_id IN ({metric_attributes})
  UNION ALL
  SELECT commodity_code, NULL, group_code, market_year, attribute_id, unit_id, value, implied_use, countries_missing,
    certain OR countries_missing > 0
  FROM {schema}.group_asof(NULL, day, checked_on := checked_on)
  WHERE attribute_id IN ({metric_attributes})
), {metric_query}
SELECT *, countries_missing = 0 AND certain_in_year AND certain_history AS certain
FROM final WHERE {check}{metric_guard}
"""

_PATH: Final = """
CREATE OR REPLACE MACRO {schema}.estimate_path(of_commodity, of_area, of_market_year, of_attribute) AS TABLE
WITH commodity AS (
  SELECT commodity_code, commodity_name, market_year_begins FROM {schema}.dim_commodity
  WHERE UPPER(of_commodity) IN (commodity_code, UPPER(commodity_name))
), attribute AS (
  SELECT attribute_id, attribute_name FROM {schema}.dim_attribute
  WHERE UPPER(of_attribute) IN (attribute_id, UPPER(attribute_name))
), area AS (
  SELECT NULL AS group_code, NULL AS group_name, commodity_code, country_code, country_name, FALSE AS is_world
  FROM {schema}.dim_country CROSS JOIN commodity WHERE UPPER(of_area) IN (country_code, UPPER(country_name))
  UNION ALL
  SELECT group_code, group_name, commodity.commodity_code, country_code, country_name, group_code LIKE 'WORLD%'
  FROM {schema}.dim_country_group AS grouping
  JOIN commodity ON COALESCE(grouping.commodity_code, commodity.commodity_code) = commodity.commodity_code
  WHERE UPPER(of_area) IN (group_code, UPPER(group_name))
    AND of_market_year BETWEEN COALESCE(from_market_year, 0) AND COALESCE(to_market_year, 9999)
    AND (grouping.commodity_code IS NOT NULL OR NOT EXISTS (
      FROM {schema}.dim_country_group AS own
      WHERE own.group_code = grouping.group_code AND own.commodity_code = commodity.commodity_code
    ))
), version AS (
  SELECT fact.* FROM {schema}.fct_psd AS fact
  JOIN attribute ON fact.attribute_id = attribute.attribute_id
  JOIN area ON fact.commodity_code = area.commodity_code AND fact.country_code = area.country_code
  WHERE market_year_now = of_market_year
), stood AS (
  SELECT released_on, COUNT(*) AS countries, SUM(value::DECIMAL(18, 4))::DOUBLE AS partial_value,
    ANY_VALUE(unit_name) AS unit_name, BOOL_AND(released_on >= shown_from) AS certain
  FROM {schema}.dim_release
  JOIN version ON valid_from <= released_on AND (valid_to IS NULL OR released_on < valid_to)
  GROUP BY released_on
), member AS (
  SELECT ANY_VALUE(group_code) AS group_code, ANY_VALUE(group_name) AS group_name,
    ANY_VALUE(CASE WHEN group_code IS NULL THEN country_code END) AS country_code,
    ANY_VALUE(CASE WHEN group_code IS NULL THEN country_name END) AS country_name,
    CASE WHEN NOT BOOL_OR(is_world) THEN COUNT(*) END AS members
  FROM area
), path AS (
  SELECT released_on, commodity_code, commodity_name, country_code, country_name, group_code, group_name,
    of_market_year::SMALLINT AS market_year, attribute_id, attribute_name, unit_name,
    CASE WHEN countries >= COALESCE(members, countries) THEN partial_value END AS value, partial_value,
    countries::INT AS countries, (COALESCE(members, countries) - countries)::INT AS countries_missing, certain,
    DATE_DIFF('month', released_on, MAKE_DATE(of_market_year::BIGINT + 1, market_year_begins, 1) - 1)
      AS months_to_market_year_end
  FROM stood CROSS JOIN member CROSS JOIN commodity CROSS JOIN attribute
)
SELECT released_on, commodity_code, commodity_name, country_code, country_name, group_code, group_name, market_year,
  attribute_id, attribute_name, unit_name, value, value - LAG(value) OVER releases AS change,
  100 * (value / NULLIF(LAG(value) OVER releases, 0) - 1) AS change_pct, months_to_market_year_end, partial_value,
  countries, countries_missing, certain
FROM path
WHERE (SELECT CASE WHEN COUNT(*) > 0 THEN TRUE
    ELSE error('no commodity ' || of_commodity || '; serving.dim_commodity lists them') END FROM commodity)
  AND (SELECT CASE WHEN COUNT(*) > 0 THEN TRUE
    ELSE error('no attribute ' || of_attribute || '; serving.dim_attribute lists them') END FROM attribute)
  AND (SELECT CASE WHEN COUNT(*) > 0 THEN TRUE
    ELSE error('no country or group ' || of_area || ' in ' || of_market_year
      || '; serving.dim_country and serving.dim_country_group list them') END FROM area)
  AND {check}
WINDOW releases AS (ORDER BY released_on){path_guard}
ORDER BY released_on
"""

_GUARD: Final = """
UNION ALL BY NAME SELECT {columns} FROM (SELECT * FROM {schema}.fct_psd WHERE NOT {check} LIMIT 1)"""
_NAMES: Final = ("commodity_code", "commodity_name", "market_year", "unit_name")
_GUARDED: Final = {
    "group_guard": (*_NAMES, "attribute_id", "attribute_name", "unit_id", "value"),
    "metric_guard": (*_NAMES, "country_code", "country_name"),
    "path_guard": (*_NAMES, "country_code", "country_name", "attribute_id", "attribute_name", "value"),
}
"""Columns of `fct_psd` that a branch without rows has in common with the macro: a filter on one cannot fold it away."""


def group_macros(schema: str, check: str, never: str) -> tuple[str, ...]:
    """The statements that create `group_asof`, `metric_asof` and `estimate_path`; `check` as in `asof_macros`."""
    guards = {
        name: _GUARD.format(schema=schema, check=check, columns=", ".join(columns)) if check != "TRUE" else ""
        for name, columns in _GUARDED.items()
    }
    names = {"schema": schema, "check": check, "never": never, "metric_query": metric_query(schema), **guards, **_CODES}
    return tuple(text.format(**names) for text in (_GROUPS, _METRICS, _PATH))


def metric_query(schema: str) -> str:
    """The metrics' definitions: the common table expressions of serving.fct_metric after `fact`, up to `final`."""
    model = (PROJECT_DIR / "models/serving/fct_metric.sql").read_text()
    query = model.partition("), sheet AS (")[2].rpartition("\nSELECT")[0]
    return f"sheet AS ({query.replace('serving.', f'{schema}.')}"

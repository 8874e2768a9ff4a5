/* One row per group of countries, commodity, market year and attribute: the exact sum of the current values over the members. Rates cannot be summed: yield and milling rate are computed from sums, other rates are left out */
MODEL (
  name serving.agg_group_balance,
  kind FULL,
  grain (group_code, commodity_code, market_year, attribute_id, unit_id),
  column_descriptions (
    group_code = 'The group, see dim_country_group',
    group_name = 'Its name',
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    attribute_name = 'The attribute',
    unit_id = 'Two digits',
    unit_name = 'The unit of value',
    value = 'The sum over the members, or the quotient of two such sums for a rate; NULL while a member is missing',
    partial_value = 'The same over the members that have a balance sheet: equal to value unless a member is missing',
    countries = 'How many members have a balance sheet of the commodity in this market year',
    countries_missing = 'How many members have none: missing, not zero. 0 for WORLD and WORLD_LESS_CHINA, whose members are the countries that USDA shows',
    is_complete = 'Whether the sum covers the group. WORLD and WORLD_LESS_CHINA are judged by the world''s trade: exports and imports differ by at most a tenth of production. False if importers are missing, as in coffee before market year 2003; NULL if nothing is traded or produced. Other groups: whether no member is missing',
    implied_use = 'Beginning stocks + production + imports - exports - ending stocks; for WORLD and WORLD_LESS_CHINA plus the world''s exports - imports, which WASDE counts as use. So the world''s is beginning stocks + production - ending stocks. NULL where one of them or a member is missing'
  ),
  audits (
    one_row_per_key(
      key := (group_code, commodity_code, market_year, attribute_id, unit_id),
      required := (commodity_name, attribute_name, unit_name, countries, countries_missing)
    ),
    a_sum_without_its_members_has_no_value
  )
);

WITH source AS (
  SELECT
    commodity_code,
    country_code,
    market_year,
    attribute_id,
    unit_id,
    value
  FROM cleaned.cln_psdalldata__fact_version
  WHERE
    valid_to IS NULL
), sheet AS (
  SELECT DISTINCT
    commodity_code,
    country_code,
    market_year
  FROM source
), member AS (
  /* A group's rows of the commodity, or those of every commodity where it has none */
  SELECT
    grouping.group_code,
    grouping.group_name,
    commodity.commodity_code,
    grouping.country_code,
    COALESCE(grouping.from_market_year, 0) AS from_market_year,
    COALESCE(grouping.to_market_year, 9999) AS to_market_year,
    grouping.group_code LIKE 'WORLD%' AS is_world
  FROM serving.dim_country_group AS grouping
  JOIN serving.dim_commodity AS commodity
    ON COALESCE(grouping.commodity_code, commodity.commodity_code) = commodity.commodity_code
  LEFT JOIN (
    SELECT DISTINCT
      group_code,
      commodity_code
    FROM serving.dim_country_group
  ) AS own
    ON grouping.group_code = own.group_code
    AND commodity.commodity_code = own.commodity_code
  WHERE
    NOT grouping.commodity_code IS NULL OR own.group_code IS NULL
), roll AS (
  SELECT
    member.group_code,
    ANY_VALUE(member.group_name) AS group_name,
    member.commodity_code,
    year.market_year,
    ANY_VALUE(member.is_world) AS is_world,
    COUNT(sheet.country_code) AS countries,
    COUNT(*) FILTER(WHERE
      NOT member.is_world AND sheet.country_code IS NULL) AS countries_missing
  FROM (
    SELECT DISTINCT
      commodity_code,
      market_year
    FROM sheet
  ) AS year
  JOIN member
    ON year.commodity_code = member.commodity_code
    AND year.market_year BETWEEN member.from_market_year AND member.to_market_year
  LEFT JOIN sheet
    ON year.commodity_code = sheet.commodity_code
    AND member.country_code = sheet.country_code
    AND year.market_year = sheet.market_year
  GROUP BY
    member.group_code,
    member.commodity_code,
    year.market_year
), added AS (
  SELECT
    member.group_code,
    source.commodity_code,
    source.market_year,
    source.attribute_id,
    source.unit_id,
    SUM(source.value) AS value
  FROM source
  JOIN member
    ON source.commodity_code = member.commodity_code
    AND source.country_code = member.country_code
    AND source.market_year BETWEEN member.from_market_year AND member.to_market_year
  WHERE
    NOT @is_rate(source.attribute_id, source.unit_id)
  GROUP BY
    member.group_code,
    source.commodity_code,
    source.market_year,
    source.attribute_id,
    source.unit_id
), total AS (
  SELECT
    group_code,
    commodity_code,
    market_year,
    MAX(CASE WHEN attribute_id = '004' AND unit_id = '04' THEN value END) AS area,
    MAX(CASE WHEN attribute_id = '028' THEN value END) AS production,
    MAX(CASE WHEN attribute_id = '028' THEN unit_id END) AS production_unit,
    NULLIF(MAX(CASE WHEN attribute_id = '054' THEN value END), 0) AS rough_production,
    COALESCE(MAX(CASE WHEN attribute_id = '057' THEN value END), 0) AS imports,
    COALESCE(MAX(CASE WHEN attribute_id = '088' THEN value END), 0) AS exports,
    MAX(CASE WHEN attribute_id = '020' THEN value END) + MAX(CASE WHEN attribute_id = '028' THEN value END) - MAX(CASE WHEN attribute_id = '176' THEN value END) AS drawn
  FROM added
  GROUP BY
    group_code,
    commodity_code,
    market_year
), rate AS (
  SELECT DISTINCT
    commodity_code,
    market_year,
    attribute_id,
    unit_id
  FROM source
  WHERE
    attribute_id IN ('182', '184')
), final AS (
  /* Yield is the crop over the area harvested, for rice the rough crop (one bale of 480 lb is 217.7243376 kg). Milling rate is milled over rough production, in ten-thousandths as on USDA's sheets */
  SELECT
    group_code,
    commodity_code,
    market_year,
    attribute_id,
    unit_id,
    value::DOUBLE AS value
  FROM added
  UNION ALL
  SELECT
    total.group_code,
    total.commodity_code,
    total.market_year,
    rate.attribute_id,
    rate.unit_id,
    CASE
      WHEN rate.attribute_id = '182'
      THEN total.production::DOUBLE / total.rough_production::DOUBLE * 10000
      ELSE COALESCE(total.rough_production, total.production)::DOUBLE / NULLIF(total.area, 0)::DOUBLE * CASE
        WHEN rate.unit_id = '29' AND total.production_unit = '27'
        THEN 217.7243376
        WHEN rate.unit_id = '29' AND total.production_unit = '08'
        THEN 1000
        WHEN rate.unit_id <> '29' AND total.production_unit = '08'
        THEN 1
      END
    END AS value
  FROM total
  JOIN rate
    ON total.commodity_code = rate.commodity_code
    AND total.market_year = rate.market_year
)
SELECT
  final.group_code::TEXT,
  roll.group_name::TEXT,
  final.commodity_code::TEXT,
  commodity.commodity_name::TEXT,
  final.market_year::SMALLINT,
  final.attribute_id::TEXT,
  attribute.attribute_name::TEXT,
  final.unit_id::TEXT,
  unit.name::TEXT AS unit_name,
  CASE WHEN roll.countries_missing = 0 THEN final.value END::DOUBLE AS value,
  final.value::DOUBLE AS partial_value,
  roll.countries::INT AS countries,
  roll.countries_missing::INT AS countries_missing,
  CASE
    WHEN NOT roll.is_world
    THEN roll.countries_missing = 0
    WHEN world.imports + world.exports > 0 AND world.production > 0
    THEN ABS(world.imports - world.exports) <= 0.1 * world.production
  END::BOOLEAN AS is_complete,
  CASE
    WHEN roll.countries_missing = 0 AND final.unit_id = total.production_unit
    THEN total.drawn + total.imports - total.exports + CASE WHEN roll.is_world THEN world.exports - world.imports ELSE 0 END
  END::DOUBLE AS implied_use
FROM final
JOIN roll
  ON final.group_code = roll.group_code
  AND final.commodity_code = roll.commodity_code
  AND final.market_year = roll.market_year
JOIN total
  ON final.group_code = total.group_code
  AND final.commodity_code = total.commodity_code
  AND final.market_year = total.market_year
JOIN total AS world
  ON world.group_code = 'WORLD'
  AND final.commodity_code = world.commodity_code
  AND final.market_year = world.market_year
LEFT JOIN serving.dim_commodity AS commodity
  ON final.commodity_code = commodity.commodity_code
LEFT JOIN serving.dim_attribute AS attribute
  ON final.attribute_id = attribute.attribute_id
LEFT JOIN cleaned.cln_psdalldata__name AS unit
  ON final.unit_id = unit.code AND unit.kind = 'unit'
WHERE
  NOT final.value IS NULL
/* One row per commodity, market year and attribute: the exact sum of the current values over all countries. Rates cannot be summed: yield and milling rate are computed from sums, other rates are left out */
MODEL (
  name serving.agg_world_balance,
  kind FULL,
  grain (commodity_code, market_year, attribute_id, unit_name),
  column_descriptions (
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    attribute_name = 'The attribute',
    unit_name = 'The unit of value',
    value = 'The sum over countries, or the quotient of two such sums for a rate',
    countries = 'How many countries have a balance sheet of the commodity in this market year',
    is_complete = 'Whether the countries cover the world, judged by trade: their exports and imports differ by at most a tenth of their production. False if importers are missing, as in coffee before market year 2003; NULL if nothing is traded or produced',
    implied_use = 'Beginning stocks + production - ending stocks of the world, which is what WASDE prints as world use; on rows of the same unit, NULL where one of the three is missing'
  ),
  audits (
    one_row_per_key(
      key := (commodity_code, market_year, attribute_id, unit_name),
      required := (commodity_name, attribute_name, value, countries)
    )
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
    valid_to IS NULL AND @covers_world()
), added AS (
  SELECT
    commodity_code,
    market_year,
    attribute_id,
    unit_id,
    SUM(value) AS value
  FROM source
  WHERE
    NOT @is_rate(attribute_id, unit_id)
  GROUP BY
    commodity_code,
    market_year,
    attribute_id,
    unit_id
), sheets AS (
  SELECT
    commodity_code,
    market_year,
    COUNT(DISTINCT country_code) AS countries
  FROM source
  GROUP BY
    commodity_code,
    market_year
), trade AS (
  SELECT
    commodity_code,
    market_year,
    SUM(CASE WHEN attribute_id = '028' THEN value END) AS production,
    COALESCE(SUM(CASE WHEN attribute_id = '057' THEN value END), 0) AS imports,
    COALESCE(SUM(CASE WHEN attribute_id = '088' THEN value END), 0) AS exports
  FROM added
  WHERE
    attribute_id IN ('028', '057', '088')
  GROUP BY
    commodity_code,
    market_year
), used AS (
  SELECT
    commodity_code,
    market_year,
    unit_id,
    SUM(CASE WHEN attribute_id = '176' THEN -value ELSE value END) AS implied_use
  FROM added
  WHERE
    attribute_id IN ('020', '028', '176')
  GROUP BY
    commodity_code,
    market_year,
    unit_id
  HAVING
    COUNT(*) = 3
), rate AS (
  SELECT DISTINCT
    commodity_code,
    market_year,
    attribute_id,
    unit_id
  FROM source
  WHERE
    attribute_id IN ('182', '184')
), derived AS (
  /* Yield is the crop over the area harvested, for rice the rough crop (one bale of 480 lb is 217.7243376 kg). Milling rate is milled over rough production, in ten-thousandths as on USDA's sheets */
  SELECT
    rate.commodity_code,
    rate.market_year,
    rate.attribute_id,
    rate.unit_id,
    CASE
      WHEN rate.attribute_id = '182'
      THEN production.value::DOUBLE / NULLIF(rough.value, 0)::DOUBLE * 10000
      ELSE COALESCE(NULLIF(rough.value, 0), production.value)::DOUBLE / NULLIF(area.value, 0)::DOUBLE * CASE
        WHEN rate.unit_id = '29' AND production.unit_id = '27'
        THEN 217.7243376
        WHEN rate.unit_id = '29' AND production.unit_id = '08'
        THEN 1000
        WHEN rate.unit_id <> '29' AND production.unit_id = '08'
        THEN 1
      END
    END AS value
  FROM rate
  JOIN added AS production
    ON rate.commodity_code = production.commodity_code
    AND rate.market_year = production.market_year
    AND production.attribute_id = '028'
  LEFT JOIN added AS rough
    ON rate.commodity_code = rough.commodity_code
    AND rate.market_year = rough.market_year
    AND rough.attribute_id = '054'
    AND rough.unit_id = production.unit_id
  LEFT JOIN added AS area
    ON rate.commodity_code = area.commodity_code
    AND rate.market_year = area.market_year
    AND area.attribute_id = '004'
    AND area.unit_id = '04'
), final AS (
  SELECT
    commodity_code,
    market_year,
    attribute_id,
    unit_id,
    value::DOUBLE AS value
  FROM added
  UNION ALL
  SELECT
    commodity_code,
    market_year,
    attribute_id,
    unit_id,
    value
  FROM derived
  WHERE
    NOT value IS NULL
)
SELECT
  final.commodity_code::TEXT,
  commodity.commodity_name::TEXT,
  final.market_year::SMALLINT,
  final.attribute_id::TEXT,
  attribute.attribute_name::TEXT,
  unit.name::TEXT AS unit_name,
  final.value::DOUBLE,
  sheets.countries::INT AS countries,
  CASE
    WHEN trade.imports + trade.exports > 0 AND trade.production > 0
    THEN ABS(trade.imports - trade.exports) <= 0.1 * trade.production
  END::BOOLEAN AS is_complete,
  used.implied_use::DOUBLE AS implied_use
FROM final
JOIN sheets
  ON final.commodity_code = sheets.commodity_code
  AND final.market_year = sheets.market_year
LEFT JOIN trade
  ON final.commodity_code = trade.commodity_code
  AND final.market_year = trade.market_year
LEFT JOIN used
  ON final.commodity_code = used.commodity_code
  AND final.market_year = used.market_year
  AND final.unit_id = used.unit_id
LEFT JOIN serving.dim_commodity AS commodity
  ON final.commodity_code = commodity.commodity_code
LEFT JOIN serving.dim_attribute AS attribute
  ON final.attribute_id = attribute.attribute_id
LEFT JOIN cleaned.cln_psdalldata__name AS unit
  ON final.unit_id = unit.code AND unit.kind = 'unit'
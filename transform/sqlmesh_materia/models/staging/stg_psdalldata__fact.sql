/* One row per fact and landed snapshot, typed. Computed where it is used, never stored */
MODEL (
  name staging.stg_psdalldata__fact,
  kind EMBEDDED,
  optimize_query TRUE, /* Unit tests that give some of its columns need the types of the others */
  column_descriptions (
    key = 'The snapshot that shows the fact',
    released_on = 'The day USDA published that snapshot',
    hkey = 'The natural key packed into 63 bits: commodity, country, market year, attribute, unit',
    commodity_code = 'Seven digits',
    country_code = 'Two characters',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    unit_id = 'Two digits',
    reported_month = 'First day of the month whose release last touched the balance sheet, NULL for Month 00',
    value = 'Exact, four decimals, in the fact''s unit'
  ),
  ignored_rules (
    'nomissingaudits'
  )
);

SELECT
  key::TEXT AS key,
  released_on::DATE AS released_on,
  @hkey(commodity_code, country_code, market_year, attribute_id, unit_id)::BIGINT AS hkey,
  commodity_code::TEXT AS commodity_code,
  country_code::TEXT AS country_code,
  market_year::SMALLINT AS market_year,
  attribute_id::TEXT AS attribute_id,
  unit_id::TEXT AS unit_id,
  CASE WHEN month <> '00' THEN CONCAT(calendar_year, '-', month, '-01')::DATE END::DATE AS reported_month,
  value::DECIMAL(18, 4) AS value
FROM raw.psd_alldata
/* One row per commodity of the WASDE cycle. SQLMesh reads a seed's codes as numbers: here they have their zeros again */
MODEL (
  name staging.stg_usda__wasde_cycle_commodity,
  kind EMBEDDED,
  column_descriptions (
    commodity_code = 'Seven digits',
    bushel_lb = 'Pounds a bushel',
    market_year_begins = 'The month in which the market year of the United States begins'
  ),
  ignored_rules (
    'nomissingaudits'
  )
);

SELECT
  LPAD(commodity_code, 7, '0')::TEXT AS commodity_code,
  bushel_lb::DOUBLE AS bushel_lb,
  market_year_begins::INT AS market_year_begins
FROM seed.wasde_cycle_commodity
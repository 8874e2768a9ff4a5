/* One row per commodity of the WASDE cycle. SQLMesh reads a seed's codes as numbers: here they have their zeros again */
MODEL (
  name staging.stg_usda__wasde_cycle_commodity,
  kind EMBEDDED,
  column_descriptions (
    commodity_code = 'Seven digits'
  ),
  ignored_rules (
    'nomissingaudits'
  )
);

SELECT
  LPAD(commodity_code, 7, '0')::TEXT AS commodity_code
FROM seed.wasde_cycle_commodity
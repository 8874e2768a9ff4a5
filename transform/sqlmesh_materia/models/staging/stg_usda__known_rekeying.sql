/* One row per re-keying that is known from outside the landing. SQLMesh reads a seed's codes as numbers: here they have their zeros again */
MODEL (
  name staging.stg_usda__known_rekeying,
  kind EMBEDDED,
  column_descriptions (
    commodity_code = 'Seven digits',
    shown_before_on = 'A day on which a file still had the old keys',
    shown_after_on = 'A day on which a file had the new keys'
  ),
  ignored_rules (
    'nomissingaudits'
  )
);

SELECT
  LPAD(commodity_code, 7, '0')::TEXT AS commodity_code,
  shown_before_on::DATE AS shown_before_on,
  shown_after_on::DATE AS shown_after_on
FROM seed.known_rekeying
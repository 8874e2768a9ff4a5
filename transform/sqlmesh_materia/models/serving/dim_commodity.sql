/* One row per commodity */
MODEL (
  name serving.dim_commodity,
  kind VIEW,
  grain commodity_code,
  column_descriptions (
    commodity_code = 'Seven digits, as USDA writes them',
    commodity_name = 'The name in the newest release that shows it, at most 30 characters',
    is_wasde_cycle = 'Whether USDA updates it on WASDE release days only, as grains, oilseeds, their products and cotton'
  ),
  audits (
    one_row_per_key(key := commodity_code, required := (commodity_name, is_wasde_cycle))
  )
);

SELECT
  name.code::TEXT AS commodity_code,
  name.name::TEXT AS commodity_name,
  (
    NOT cycle.commodity_code IS NULL
  )::BOOLEAN AS is_wasde_cycle
FROM cleaned.cln_psdalldata__name AS name
LEFT JOIN staging.stg_usda__wasde_cycle_commodity AS cycle
  ON name.code = cycle.commodity_code
WHERE
  name.kind = 'commodity'
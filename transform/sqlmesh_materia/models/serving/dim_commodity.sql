/* One row per commodity */
MODEL (
  name serving.dim_commodity,
  kind VIEW,
  grain commodity_code,
  column_descriptions (
    commodity_code = 'Seven digits, as USDA writes them',
    commodity_name = 'The name in the newest release that shows it, at most 30 characters'
  ),
  audits (
    not_null(columns := (commodity_code, commodity_name)),
    unique_values(columns := (
      commodity_code
    ))
  )
);

SELECT
  code::TEXT AS commodity_code,
  name::TEXT AS commodity_name
FROM cleaned.cln_psdalldata__name
WHERE
  kind = 'commodity'
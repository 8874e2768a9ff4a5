/* One row per country */
MODEL (
  name serving.dim_country,
  kind VIEW,
  grain country_code,
  column_descriptions (
    country_code = 'Two characters, as USDA writes them',
    country_name = 'The name in the newest release that shows it, at most 30 characters'
  ),
  audits (
    one_row_per_key(key := country_code, required := country_name)
  )
);

SELECT
  code::TEXT AS country_code,
  name::TEXT AS country_name
FROM cleaned.cln_psdalldata__name
WHERE
  kind = 'country'
/* One row per attribute */
MODEL (
  name serving.dim_attribute,
  kind VIEW,
  grain attribute_id,
  column_descriptions (
    attribute_id = 'Three digits, as USDA writes them',
    attribute_name = 'The name in the newest release that shows it, at most 30 characters'
  ),
  audits (
    one_row_per_key(key := attribute_id, required := attribute_name),
    every_attribute_has_a_column(blocking := FALSE)
  )
);

SELECT
  code::TEXT AS attribute_id,
  name::TEXT AS attribute_name
FROM cleaned.cln_psdalldata__name
WHERE
  kind = 'attribute'
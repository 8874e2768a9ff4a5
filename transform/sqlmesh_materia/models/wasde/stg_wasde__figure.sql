/* One row per figure of a WASDE report, in PSD's codes and units. Of several files of one report the last key counts */
MODEL (
  name staging.stg_wasde__figure,
  kind VIEW,
  optimize_query TRUE, /* Unit tests that give some of its columns need the types of the others */
  grain (released_at, title, region, market_year, attribute_id),
  column_descriptions (
    released_at = 'When USDA released the report, Washington time',
    title = 'The table',
    commodity_code = 'Seven digits, NULL where PSD has no such commodity',
    commodity_name = 'The commodity',
    region = 'The region as printed',
    country_code = 'Two characters, NULL for a group',
    group_code = 'The group, NULL for a country; both are NULL for a region that is not mapped',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    value = 'In unit_name',
    unit_name = 'The unit of value',
    is_compared = 'Whether PSD''s countries sum to the world of this table'
  ),
  audits (
    one_row_per_key(
      key := (released_at, title, region, market_year, attribute_id),
      required := (value, unit_name)
    )
  )
);

WITH report AS (
  SELECT
    key,
    released_at,
    ROW_NUMBER() OVER (PARTITION BY released_at ORDER BY key DESC) AS rank
  FROM raw.wasde_report
)
SELECT
  report.released_at::TIMESTAMP,
  figure.title::TEXT,
  NULLIF(wasde_table.commodity_code, 'none')::TEXT AS commodity_code,
  wasde_table.commodity_name::TEXT,
  figure.region::TEXT,
  wasde_region.country_code::TEXT,
  wasde_region.group_code::TEXT,
  figure.market_year::SMALLINT,
  figure.attribute_id::TEXT,
  (
    figure.value::DECIMAL(18, 4) * 1000
  )::DOUBLE AS value,
  wasde_table.unit_name::TEXT,
  (
    wasde_table.is_compared = 1
  )::BOOLEAN AS is_compared
FROM raw.wasde_figure AS figure
JOIN report
  ON figure.key = report.key AND report.rank = 1
LEFT JOIN seed.wasde_table AS wasde_table
  ON figure.title = wasde_table.title
LEFT JOIN seed.wasde_region AS wasde_region
  ON figure.region = wasde_region.region
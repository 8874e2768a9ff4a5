/* One row per figure that a landed WASDE report prints of a country or group of countries, in PSD's codes and units. The table exists where WASDE reports are landed */
MODEL (
  name serving.fct_wasde,
  kind VIEW,
  grain (released_at, commodity_code, region, market_year, attribute_id),
  column_descriptions (
    released_at = 'When USDA released the report, Washington time',
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    region = 'The region as printed',
    country_code = 'Two characters, NULL for a group',
    group_code = 'The group of dim_country_group or another one that WASDE prints, NULL for a country. Its members may differ from commodity to commodity',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits. World use (125) is printed adjusted to trade: beginning stocks + production - ending stocks',
    attribute_name = 'The attribute, NULL where no landed PSD file has it',
    value = 'In unit_name. WASDE prints two decimals of a million, so this is rounded to 10',
    unit_name = 'The unit of value, that of PSD',
    is_compared = 'Whether real files show that the figures of this table are PSD''s'
  ),
  audits (
    one_row_per_key(
      key := (released_at, commodity_code, region, market_year, attribute_id),
      required := (commodity_name, value, unit_name)
    )
  )
);

SELECT
  figure.released_at::TIMESTAMP,
  figure.commodity_code::TEXT,
  figure.commodity_name::TEXT,
  figure.region::TEXT,
  figure.country_code::TEXT,
  figure.group_code::TEXT,
  figure.market_year::SMALLINT,
  figure.attribute_id::TEXT,
  attribute.attribute_name::TEXT,
  figure.value::DOUBLE,
  figure.unit_name::TEXT,
  figure.is_compared::BOOLEAN
FROM staging.stg_wasde__figure AS figure
LEFT JOIN serving.dim_attribute AS attribute
  ON figure.attribute_id = attribute.attribute_id
WHERE
  NOT figure.commodity_code IS NULL
  AND NOT COALESCE(figure.country_code, figure.group_code) IS NULL
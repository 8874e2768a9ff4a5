/* One row per current balance sheet (commodity, country, market year), its attributes as columns */
MODEL (
  name cleaned.cln_psdalldata__commodity_pivoted,
  kind VIEW,
  grain (commodity_code, country_code, market_year),
  column_descriptions (
    commodity_code = 'Seven digits',
    country_code = 'Two characters',
    market_year = 'USDA''s market year',
    released_on = 'The newest release, whose sheet this is',
    last_changed_on = 'The release that first shows the youngest of the sheet''s values'
  ),
  ignored_rules (
    'nomissingaudits'
  )
);

WITH source AS (
  SELECT
    commodity_code,
    country_code,
    market_year,
    attribute_id::SMALLINT AS attribute_id,
    value,
    first_seen_on,
    last_seen_on
  FROM cleaned.cln_psdalldata__fact_version
  WHERE
    valid_to IS NULL
)
SELECT
  commodity_code::TEXT,
  country_code::TEXT,
  market_year::SMALLINT,
  MAX(last_seen_on)::DATE AS released_on,
  MAX(first_seen_on)::DATE AS last_changed_on,
  @attribute_values(attribute_id, value)
FROM source
GROUP BY
  commodity_code,
  country_code,
  market_year
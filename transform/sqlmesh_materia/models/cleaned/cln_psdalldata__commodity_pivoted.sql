/* One row per current balance sheet (commodity, country, market year), its attributes as columns */
MODEL (
  name cleaned.cln_psdalldata__commodity_pivoted,
  kind VIEW,
  optimize_query FALSE,
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
    MAX(value) AS value,
    MAX(first_seen_on) AS first_seen_on,
    MAX(last_seen_on) AS last_seen_on
  FROM cleaned.cln_psdalldata__fact_version
  WHERE
    valid_to IS NULL
  GROUP BY
    commodity_code,
    country_code,
    market_year,
    attribute_id
), sheet AS (
  /* A map of the dozen attributes that a sheet has costs a third of an aggregate for each of all attributes */
  SELECT
    commodity_code,
    country_code,
    market_year,
    MAX(last_seen_on) AS released_on,
    MAX(first_seen_on) AS last_changed_on,
    MAP(ARRAY_AGG(attribute_id), ARRAY_AGG(value)) AS value_of
  FROM source
  GROUP BY
    commodity_code,
    country_code,
    market_year
)
SELECT
  commodity_code::TEXT,
  country_code::TEXT,
  market_year::SMALLINT,
  released_on::DATE,
  last_changed_on::DATE,
  @attribute_values(value_of)
FROM sheet
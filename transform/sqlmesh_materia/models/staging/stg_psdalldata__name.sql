/* One row per code, name and release that shows them together */
MODEL (
  name staging.stg_psdalldata__name,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column (ingest_date, '%Y-%m-%d')
  ),
  grain (ingest_date, kind, code, name),
  column_descriptions (
    ingest_date = 'The day USDA published the release (its released_on)',
    kind = 'What the code stands for: commodity, country, attribute or unit',
    code = 'The code as USDA writes it',
    name = 'The name as USDA writes it'
  ),
  audits (
    one_row_per_key(key := (ingest_date, kind, code, name))
  )
);

WITH source AS (
  SELECT
    release.released_on,
    line.commodity_code,
    line.commodity_description,
    line.country_code,
    line.country_name,
    line.attribute_id,
    line.attribute_description,
    line.unit_id,
    line.unit_description
  FROM raw.psd_alldata AS line
  JOIN staging.stg_psdalldata__release AS release
    ON line.released_on = release.landed_as AND line.key = release.key
  WHERE
    release.released_on BETWEEN @start_date AND @end_date
), final AS (
  SELECT DISTINCT
    released_on AS ingest_date,
    'commodity' AS kind,
    commodity_code AS code,
    commodity_description AS name
  FROM source
  UNION ALL
  SELECT DISTINCT
    released_on,
    'country',
    country_code,
    country_name
  FROM source
  UNION ALL
  SELECT DISTINCT
    released_on,
    'attribute',
    attribute_id,
    attribute_description
  FROM source
  UNION ALL
  SELECT DISTINCT
    released_on,
    'unit',
    unit_id,
    unit_description
  FROM source
)
SELECT
  ingest_date::DATE,
  kind::TEXT,
  code::TEXT,
  name::TEXT
FROM final
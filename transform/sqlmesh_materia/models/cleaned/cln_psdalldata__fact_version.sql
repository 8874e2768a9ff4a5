/* One row per version of a fact: a run of snapshots that show one value, with the days between which it was the truth */
MODEL (
  name cleaned.cln_psdalldata__fact_version,
  kind VIEW,
  optimize_query FALSE,
  grain (hkey, valid_from),
  column_descriptions (
    hkey = 'The fact''s stable key',
    commodity_code = 'Seven digits',
    country_code = 'Two characters',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    unit_id = 'Two digits',
    value = 'Exact, four decimals, in the fact''s unit',
    reported_month = 'First day of the month USDA stamped the value with when it first appeared, NULL for Month 00',
    valid_from = 'First day on which the value was surely public',
    valid_to = 'First day on which it no longer was, NULL while it is current',
    first_seen_on = 'The first release that shows it',
    last_seen_on = 'The last release that shows it'
  ),
  depends_on (
    staging.stg_psdalldata__release
  ),
  audits (
    not_null(columns := (hkey, value, valid_from, last_seen_on)),
    unique_combination_of_columns(columns := (hkey, valid_from)),
    versions_follow_each_other,
    current_versions_are_the_newest_snapshot
  )
);

WITH newest AS (
  /* Every release names its codes, also one that changes no value */
  SELECT
    MAX(ingest_date) AS released_on
  FROM staging.stg_psdalldata__name
), final AS (
  SELECT
    source.hkey,
    source.commodity_code,
    source.country_code,
    source.market_year,
    source.attribute_id,
    source.unit_id,
    source.value,
    source.reported_month,
    source.valid_from,
    ended.valid_to,
    source.ingest_date AS first_seen_on,
    COALESCE(ended.last_seen_on, newest.released_on) AS last_seen_on
  FROM staging.stg_psdalldata__commodity AS source
  CROSS JOIN newest
  LEFT JOIN cleaned.cln_psdalldata__version_end AS ended
    ON source.hkey = ended.hkey AND source.ingest_date = ended.first_seen_on
  WHERE
    NOT source.value IS NULL
)
SELECT
  hkey::BIGINT,
  commodity_code::TEXT,
  country_code::TEXT,
  market_year::SMALLINT,
  attribute_id::TEXT,
  unit_id::TEXT,
  value::DECIMAL(18, 4),
  reported_month::DATE,
  valid_from::DATE,
  valid_to::DATE,
  first_seen_on::DATE,
  last_seen_on::DATE
FROM final
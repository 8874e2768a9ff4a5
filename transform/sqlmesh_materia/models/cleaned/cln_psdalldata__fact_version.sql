/* One row per version of a fact: consecutive snapshots with the same value, and the days on which it was valid */
MODEL (
  name cleaned.cln_psdalldata__fact_version,
  kind VIEW,
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
    last_seen_on = 'The last release that shows it',
    market_year_now = 'The market year under which the newest release keys the crop: another one where the commodity was re-keyed since'
  ),
  depends_on (
    staging.stg_psdalldata__release
  ),
  audits (
    one_row_per_key(key := (hkey, valid_from), required := (value, last_seen_on)),
    versions_follow_each_other,
    current_versions_are_the_newest_snapshot
  )
);

WITH newest AS (
  /* Every release names its codes, also one that changes no value */
  SELECT
    MAX(ingest_date) AS released_on
  FROM staging.stg_psdalldata__name
), shift AS (
  /* By how many years the crops of a commodity have moved since the days between two of its re-keyings */
  SELECT
    commodity_code,
    LAG(released_on) OVER (PARTITION BY commodity_code ORDER BY released_on) AS seen_from,
    released_on AS seen_before,
    SUM(years) OVER (PARTITION BY commodity_code ORDER BY released_on DESC) AS years
  FROM cleaned.cln_psdalldata__rekeying
), version AS (
  SELECT
    source.hkey,
    source.commodity_code,
    source.country_code,
    source.market_year,
    source.attribute_id,
    source.unit_id,
    source.value,
    source.reported_month,
    CASE WHEN rekeying.years IS NULL THEN source.valid_from ELSE source.public_from END AS valid_from,
    ended.valid_to,
    source.ingest_date AS first_seen_on,
    COALESCE(ended.last_seen_on, newest.released_on) AS last_seen_on
  FROM staging.stg_psdalldata__commodity AS source
  CROSS JOIN newest
  LEFT JOIN cleaned.cln_psdalldata__rekeying AS rekeying
    ON source.ingest_date = rekeying.released_on
    AND source.commodity_code = rekeying.commodity_code
  LEFT JOIN cleaned.cln_psdalldata__version_end AS ended
    ON source.hkey = ended.hkey AND source.ingest_date = ended.first_seen_on
  WHERE
    NOT source.value IS NULL
), final AS (
  SELECT
    version.hkey,
    version.commodity_code,
    version.country_code,
    version.market_year,
    version.attribute_id,
    version.unit_id,
    version.value,
    version.reported_month,
    version.valid_from,
    version.valid_to,
    version.first_seen_on,
    version.last_seen_on,
    version.market_year + COALESCE(shift.years, 0) AS market_year_now
  FROM version
  LEFT JOIN shift
    ON version.commodity_code = shift.commodity_code
    AND version.last_seen_on < shift.seen_before
    AND version.last_seen_on >= COALESCE(shift.seen_from, '0001-01-01'::DATE)
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
  last_seen_on::DATE,
  market_year_now::SMALLINT
FROM final
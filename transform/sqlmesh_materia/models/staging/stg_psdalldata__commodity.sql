/* One row per fact and release that changed it: each release is compared with the previous one, only differences are stored */
MODEL (
  name staging.stg_psdalldata__commodity,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column (ingest_date, '%Y-%m-%d')
  ),
  grain (hkey, ingest_date),
  column_descriptions (
    ingest_date = 'The day USDA published the release with the change (its released_on)',
    compared_with = 'The previous release, NULL for the earliest, whose facts are the baseline',
    hkey = 'The fact''s stable key',
    commodity_code = 'Seven digits',
    country_code = 'Two characters',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    unit_id = 'Two digits',
    reported_month = 'First day of the month USDA stamps the balance sheet with, NULL for Month 00 and for a removed fact',
    value = 'The value in the release, NULL if the fact was removed',
    previous_value = 'The value in the previous release, NULL if the fact is new',
    public_from = 'First day on which the change was surely public according to the releases',
    valid_from = 'The same, or the last day of the stamp''s month when that is earlier and no release contradicts the stamp'
  ),
  audits (
    one_row_per_key(
      key := (hkey, ingest_date),
      required := (commodity_code, country_code, market_year, attribute_id, unit_id, valid_from)
    ),
    accepted_range("column" := market_year, min_v := 1900, max_v := 2100),
    accounts_for_every_row
  )
);

WITH release AS (
  SELECT
    released_on,
    key,
    landed_as,
    shown_from,
    public_from,
    previous_released_on,
    previous_key,
    previous_landed_as,
    COALESCE(previous_shown_from, '0001-01-01'::DATE) AS previous_shown_from
  FROM staging.stg_psdalldata__release
  WHERE
    released_on BETWEEN @start_date AND @end_date
), shown AS (
  SELECT
    release.released_on AS ingest_date,
    fact.hkey,
    fact.commodity_code,
    fact.country_code,
    fact.market_year,
    fact.attribute_id,
    fact.unit_id,
    fact.reported_month,
    fact.value
  FROM staging.stg_psdalldata__fact AS fact
  JOIN release
    ON fact.released_on = release.landed_as AND fact.key = release.key
), shown_before AS (
  SELECT
    release.released_on AS ingest_date,
    fact.hkey,
    fact.commodity_code,
    fact.country_code,
    fact.market_year,
    fact.attribute_id,
    fact.unit_id,
    fact.reported_month,
    fact.value
  FROM staging.stg_psdalldata__fact AS fact
  JOIN release
    ON fact.released_on = release.previous_landed_as AND fact.key = release.previous_key
), changed AS (
  SELECT
    COALESCE(shown.ingest_date, shown_before.ingest_date) AS ingest_date,
    COALESCE(shown.hkey, shown_before.hkey) AS hkey,
    COALESCE(shown.commodity_code, shown_before.commodity_code) AS commodity_code,
    COALESCE(shown.country_code, shown_before.country_code) AS country_code,
    COALESCE(shown.market_year, shown_before.market_year) AS market_year,
    COALESCE(shown.attribute_id, shown_before.attribute_id) AS attribute_id,
    COALESCE(shown.unit_id, shown_before.unit_id) AS unit_id,
    shown.reported_month,
    shown_before.reported_month AS previous_month,
    shown.value,
    shown_before.value AS previous_value
  FROM shown
  FULL JOIN shown_before
    ON shown.ingest_date = shown_before.ingest_date AND shown.hkey = shown_before.hkey
  WHERE
    shown.value IS DISTINCT FROM shown_before.value
), stamped AS (
  SELECT
    changed.ingest_date,
    release.previous_released_on AS compared_with,
    changed.hkey,
    changed.commodity_code,
    changed.country_code,
    changed.market_year,
    changed.attribute_id,
    changed.unit_id,
    changed.reported_month,
    changed.previous_month,
    changed.value,
    changed.previous_value,
    release.public_from,
    release.previous_shown_from,
    CASE
      WHEN rekeying.shown_after_on > LAST_DAY(changed.reported_month)
      AND release.released_on > rekeying.shown_before_on
      THEN rekeying.shown_after_on
      ELSE LAST_DAY(changed.reported_month)
    END AS stamped_from /* A re-keying keeps stamps, so none that is older reaches back over it */
  FROM changed
  JOIN release
    ON changed.ingest_date = release.released_on
  LEFT JOIN staging.stg_usda__known_rekeying AS rekeying
    ON changed.commodity_code = rekeying.commodity_code
), final AS (
  SELECT
    ingest_date,
    compared_with,
    hkey,
    commodity_code,
    country_code,
    market_year,
    attribute_id,
    unit_id,
    reported_month,
    value,
    previous_value,
    public_from,
    CASE
      WHEN value IS NULL
      THEN public_from
      WHEN stamped_from < public_from
      AND @stamp_is_proof(reported_month, previous_month, stamped_from, previous_shown_from)
      THEN stamped_from
      ELSE public_from
    END AS valid_from
  FROM stamped
)
SELECT
  ingest_date::DATE,
  compared_with::DATE,
  hkey::BIGINT,
  commodity_code::TEXT,
  country_code::TEXT,
  market_year::SMALLINT,
  attribute_id::TEXT,
  unit_id::TEXT,
  reported_month::DATE,
  value::DECIMAL(18, 4),
  previous_value::DECIMAL(18, 4),
  public_from::DATE,
  valid_from::DATE
FROM final
/* Several releases at once come out of the join in no order, and a column in no order takes three times the disk */
ORDER BY
  ingest_date,
  hkey
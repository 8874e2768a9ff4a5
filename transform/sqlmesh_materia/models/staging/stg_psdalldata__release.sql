/* One row per release day, in order, with the release it is compared with. Of several snapshots of one day the last counts */
MODEL (
  name staging.stg_psdalldata__release,
  kind VIEW,
  grain released_on,
  column_descriptions (
    released_on = 'The day USDA published the release; the time axis of everything',
    key = 'The snapshot that counts for this day',
    etag = 'Its ETag as served',
    release_month = 'First day of the month of the release''s address in the archive',
    row_count = 'Facts in the snapshot, as its marker says',
    previous_released_on = 'The release before this one, NULL for the earliest',
    previous_key = 'The snapshot of the release before'
  ),
  audits (
    not_null(columns := (released_on, key, row_count)),
    unique_values(columns := (released_on, key))
  )
);

WITH source AS (
  SELECT
    key,
    etag,
    release_year,
    release_month,
    released_on,
    row_count,
    last_modified_at
  FROM raw.psd_snapshot
), last_of_day AS (
  SELECT
    key,
    etag,
    release_year,
    release_month,
    released_on,
    row_count,
    ROW_NUMBER() OVER (PARTITION BY released_on ORDER BY last_modified_at DESC, key DESC) AS rank
  FROM source
), final AS (
  SELECT
    released_on,
    key,
    etag,
    CONCAT(release_year::TEXT, '-', LPAD(release_month::TEXT, 2, '0'), '-01')::DATE AS release_month,
    row_count,
    LAG(released_on) OVER (ORDER BY released_on) AS previous_released_on,
    LAG(key) OVER (ORDER BY released_on) AS previous_key
  FROM last_of_day
  WHERE
    rank = 1
)
SELECT
  released_on::DATE,
  key::TEXT,
  etag::TEXT,
  release_month::DATE,
  row_count::BIGINT,
  previous_released_on::DATE,
  previous_key::TEXT
FROM final
/* One row per release in this lakehouse. Written after every other table, so a release listed here is complete in all tables */
MODEL (
  name serving.dim_release,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column (released_on, '%Y-%m-%d')
  ),
  grain released_on,
  depends_on @models_before('serving.dim_release'),
  column_descriptions (
    released_on = 'The day USDA published the release',
    release_month = 'First day of the release month; releases are ordered by it, then by time of publication',
    published_at = 'The moment of publication in Washington time, NULL when unknown',
    dataset = 'Which of USDA''s files this lakehouse serves',
    snapshot_key = 'The landed snapshot that counts for this day',
    etag = 'Its ETag as served, NULL when there was none',
    row_count = 'Facts in the snapshot',
    shown_from = 'First day on which the file proves the published values; later than released_on for a correction that was published long after its month',
    next_release_due = 'The first day on which USDA may release WASDE after it: listed in USDA''s calendar, or the 8th of a month beyond it. Commodities of the WASDE cycle stand until the day before',
    previous_released_on = 'The previous release, which it is compared with; NULL for the baseline',
    previous_snapshot_key = 'The snapshot of the previous release'
  ),
  audits (
    one_row_per_key(key := released_on, required := (snapshot_key, row_count))
  )
);

SELECT
  released_on::DATE,
  release_month::DATE,
  published_at::TIMESTAMP,
  @dataset()::TEXT AS dataset,
  key::TEXT AS snapshot_key,
  etag::TEXT,
  row_count::BIGINT,
  shown_from::DATE,
  next_release_due::DATE,
  previous_released_on::DATE,
  previous_key::TEXT AS previous_snapshot_key
FROM staging.stg_psdalldata__release
WHERE
  released_on BETWEEN @start_date AND @end_date
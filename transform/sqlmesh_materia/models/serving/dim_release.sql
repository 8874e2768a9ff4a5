/* One row per release in this lakehouse. Written after every other table, so a release that stands here is whole everywhere */
MODEL (
  name serving.dim_release,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column (released_on, '%Y-%m-%d')
  ),
  optimize_query FALSE,
  grain released_on,
  depends_on (
    staging.stg_psdalldata__commodity,
    staging.stg_psdalldata__name,
    cleaned.cln_psdalldata__fact_version,
    cleaned.cln_psdalldata__commodity_pivoted,
    cleaned.cln_psdalldata__revision,
    serving.agg_world_balance,
    serving.fct_psd,
    serving.fct_psd_revision,
    serving.obt_commodity_metrics
  ),
  column_descriptions (
    released_on = 'The day USDA published the release',
    release_month = 'First day of the month of the release''s address in the archive',
    dataset = 'Which of USDA''s files this lakehouse serves',
    snapshot_key = 'The landed snapshot that counts for this day',
    etag = 'Its ETag as served, NULL when there was none',
    row_count = 'Facts in the snapshot',
    compared_with = 'The release before, NULL for the baseline',
    compared_with_key = 'The snapshot of the release before'
  ),
  audits (
    not_null(columns := (released_on, snapshot_key, row_count)),
    unique_values(columns := (
      released_on
    ))
  )
);

SELECT
  released_on::DATE,
  release_month::DATE,
  @dataset()::TEXT AS dataset,
  key::TEXT AS snapshot_key,
  etag::TEXT,
  row_count::BIGINT,
  previous_released_on::DATE AS compared_with,
  previous_key::TEXT AS compared_with_key
FROM staging.stg_psdalldata__release
WHERE
  released_on BETWEEN @start_date AND @end_date
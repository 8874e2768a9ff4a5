/* One row per landed snapshot of the dataset this lakehouse serves: its commit marker, as written */
MODEL (
  name raw.psd_snapshot,
  kind VIEW,
  columns (
    key TEXT,
    dataset TEXT,
    etag TEXT,
    last_modified TEXT,
    release_year INT,
    release_month INT,
    released_on DATE,
    published_at TIMESTAMP,
    row_count BIGINT
  ),
  column_descriptions (
    key = 'Names the zip and its marker in the landing; the file-name-safe ETag',
    dataset = 'Which of USDA''s files it is, such as psd_alldata',
    etag = 'The ETag as served, NULL when there was none',
    last_modified = 'The Last-Modified header as served, an RFC 9110 date',
    release_year = 'Year of the release month',
    release_month = 'The month of the archive address, or of the newest stamp in the file if that is later; 1 to 12',
    released_on = 'The day USDA published this snapshot, derived from this snapshot alone',
    published_at = 'The moment of publication in Washington time, NULL when unknown',
    row_count = 'Rows of the CSV, header not counted'
  ),
  audits (
    one_row_per_key(key := key, required := (released_on, row_count))
  ),
  ignored_rules (
    'ambiguousorinvalidcolumn'
  )
);

SELECT
  (
    content ->> '$.key'
  )::TEXT AS key,
  (
    content ->> '$.dataset'
  )::TEXT AS dataset,
  (
    content ->> '$.etag'
  )::TEXT AS etag,
  (
    content ->> '$.last_modified'
  )::TEXT AS last_modified,
  (
    content ->> '$.release_year'
  )::INT AS release_year,
  (
    content ->> '$.release_month'
  )::INT AS release_month,
  (
    content ->> '$.released_on'
  )::DATE AS released_on,
  (
    content ->> '$.published_at'
  )::TIMESTAMP AS published_at,
  (
    content ->> '$.row_count'
  )::BIGINT AS row_count
FROM @landing_markers('psd')
WHERE
  (
    content ->> '$.dataset'
  ) = @dataset()
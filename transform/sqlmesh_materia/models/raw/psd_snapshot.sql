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
    released_on = 'The day USDA published this snapshot, from this snapshot alone',
    published_at = 'The moment of publication in Washington time, NULL when nothing plausible says it',
    row_count = 'Rows of the CSV, header not counted'
  ),
  audits (
    not_null(columns := (key, released_on, row_count)),
    unique_values(columns := (
      key
    ))
  ),
  ignored_rules (
    'ambiguousorinvalidcolumn'
  )
);

SELECT
  key::TEXT,
  dataset::TEXT,
  etag::TEXT,
  last_modified::TEXT,
  release_year::INT,
  release_month::INT,
  released_on::DATE,
  published_at::TIMESTAMP,
  row_count::BIGINT
FROM READ_JSON(
  @landing_glob('psd/*.json'),
  columns = {'key': 'VARCHAR', 'dataset': 'VARCHAR', 'etag': 'VARCHAR', 'last_modified': 'VARCHAR', 'release_year': 'INTEGER', 'release_month': 'INTEGER', 'released_on': 'DATE', 'published_at': 'TIMESTAMP', 'row_count': 'BIGINT'}
)
WHERE
  dataset = @dataset()
/* One row per landed snapshot of the dataset this lakehouse serves: its commit marker, as written */
MODEL (
  name raw.psd_snapshot,
  kind VIEW,
  columns (
    key TEXT,
    dataset TEXT,
    etag TEXT,
    last_modified TEXT,
    last_modified_at TIMESTAMP,
    release_year INT,
    release_month INT,
    released_on DATE,
    row_count BIGINT
  ),
  column_descriptions (
    key = 'Names the zip and its marker in the landing; the file-name-safe ETag',
    dataset = 'Which of USDA''s files it is, such as psd_alldata',
    etag = 'The ETag as served, NULL when there was none',
    last_modified = 'The Last-Modified header as served, an RFC 9110 date',
    last_modified_at = 'The moment it names in UTC, NULL when it names none',
    release_year = 'Year of the release''s address in the archive',
    release_month = 'Month of the release''s address in the archive, 1 to 12',
    released_on = 'The day USDA published this snapshot',
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
  TRY_STRPTIME(last_modified, '%a, %d %b %Y %H:%M:%S GMT')::TIMESTAMP AS last_modified_at,
  release_year::INT,
  release_month::INT,
  released_on::DATE,
  row_count::BIGINT
FROM READ_JSON(
  @landing_glob('psd/*.json'),
  columns = {'key': 'VARCHAR', 'dataset': 'VARCHAR', 'etag': 'VARCHAR', 'last_modified': 'VARCHAR', 'release_year': 'INTEGER', 'release_month': 'INTEGER', 'released_on': 'DATE', 'row_count': 'BIGINT'}
)
WHERE
  dataset = @dataset()
/* One row per landed WASDE report: its commit marker, as written */
MODEL (
  name raw.wasde_report,
  kind VIEW,
  columns (
    key TEXT,
    member TEXT,
    released_at TIMESTAMP,
    row_count BIGINT
  ),
  column_descriptions (
    key = 'Names the report and its marker in the landing',
    member = 'The name of USDA''s file',
    released_at = 'When USDA released the report, Washington time',
    row_count = 'Figures in it'
  ),
  audits (
    one_row_per_key(key := key, required := (released_at, row_count))
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
    content ->> '$.member'
  )::TEXT AS member,
  (
    content ->> '$.published_at'
  )::TIMESTAMP AS released_at,
  (
    content ->> '$.row_count'
  )::BIGINT AS row_count
FROM @landing_markers('wasde')
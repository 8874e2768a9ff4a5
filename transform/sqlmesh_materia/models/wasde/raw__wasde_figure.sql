/* One row per figure of the world tables of every landed WASDE report, every column as text */
MODEL (
  name raw.wasde_figure,
  kind VIEW,
  columns (
    key TEXT,
    title TEXT,
    region TEXT,
    market_year TEXT,
    attribute_id TEXT,
    unit TEXT,
    value TEXT
  ),
  column_descriptions (
    key = 'The report this figure belongs to',
    title = 'The title of the table without footnotes',
    region = 'The printed region without footnotes',
    market_year = 'The year in which the market year begins',
    attribute_id = 'The attribute of the column, three digits',
    unit = 'What the table is printed in',
    value = 'The printed figure without thousands separators'
  ),
  ignored_rules ('nomissingaudits', 'ambiguousorinvalidcolumn')
);

SELECT
  key::TEXT,
  title::TEXT,
  region::TEXT,
  market_year::TEXT,
  attribute_id::TEXT,
  unit::TEXT,
  value::TEXT
FROM @landing_rows('wasde')
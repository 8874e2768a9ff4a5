/* One row per world table of a WASDE report that is read. A report with another one is refused when it is landed */
MODEL (
  name seed.wasde_table,
  kind SEED (
    path '../../seeds/wasde_tables.csv'
  ),
  columns (
    title TEXT,
    commodity_code TEXT,
    commodity_name TEXT,
    unit TEXT,
    unit_name TEXT,
    columns TEXT,
    is_compared INT
  ),
  column_descriptions (
    title = 'The title of the page without footnotes',
    commodity_code = 'Seven digits, or none where PSD has no such commodity. A word and not an empty field: SQLMesh would read the codes as numbers',
    commodity_name = 'The commodity as PSD names it',
    unit = 'What the page is printed in',
    unit_name = 'The unit of PSD that is a thousandth of it',
    columns = 'The attributes of its columns, in their order',
    is_compared = '1 where real files show that the world is the sum of PSD''s countries'
  ),
  grain title,
  audits (
    one_row_per_key(key := title, required := (commodity_code, unit_name))
  )
)
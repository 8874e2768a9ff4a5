/* One row per WASDE report: the day on which USDA released it. A calendar month without a row had none. Times are text:
SQLMesh would parse each row with pandas, which takes longer than the models that cast it */
MODEL (
  name seed.wasde_release_day,
  kind SEED (
    path '../../seeds/wasde_release_days.csv'
  ),
  columns (
    report_month TEXT,
    released_at_washington TEXT,
    version INT
  ),
  column_descriptions (
    report_month = 'The month that the report is of, YYYY-MM',
    released_at_washington = 'When USDA released it, Washington time',
    version = 'Counts the files of one report'
  ),
  grain (released_at_washington, version),
  audits (
    not_null(columns := (
      released_at_washington
    ))
  )
)
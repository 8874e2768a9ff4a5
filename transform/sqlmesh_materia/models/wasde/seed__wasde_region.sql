/* One row per region as WASDE prints it, with the country or the group of countries that it is */
MODEL (
  name seed.wasde_region,
  kind SEED (
    path '../../seeds/wasde_regions.csv',
    csv_settings (keep_default_na = FALSE, na_values = (
        ''
    ))
  ),
  columns (
    region TEXT,
    country_code TEXT,
    group_code TEXT
  ),
  column_descriptions (
    region = 'The printed name without footnotes',
    country_code = 'Two characters, NULL for a group',
    group_code = 'The group, NULL for a country; its members may differ from table to table'
  ),
  grain region,
  audits (
    unique_values(columns := (
      region
    ))
  )
)
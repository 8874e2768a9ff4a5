/* One row per member of a group of countries, commodity and span of market years. The world is not listed: all countries are in it */
MODEL (
  name seed.country_group,
  kind SEED (
    path '../../seeds/country_groups.csv',
    csv_settings (keep_default_na = FALSE, na_values = (
        ''
    ))
  ),
  columns (
    group_code TEXT,
    group_name TEXT,
    commodity_code TEXT,
    country_code TEXT,
    from_market_year INT,
    to_market_year INT
  ),
  column_descriptions (
    group_code = 'The group',
    group_name = 'Its name',
    commodity_code = 'Seven digits; ALL: every commodity without rows of its own in this group. A word and not an empty field: SQLMesh would read the codes as numbers',
    country_code = 'Two characters',
    from_market_year = 'First market year of the membership, NULL: since ever',
    to_market_year = 'Last market year of the membership, NULL: to date'
  ),
  grain (group_code, commodity_code, country_code),
  audits (
    one_row_per_key(key := (group_code, commodity_code, country_code), required := group_name)
  )
)
/* One row per country code of PSD. Codes and regions: the FAS API's lists of countries and regions as of 2026-10-23. PSD's codes are not
ISO codes: BO is Belarus, NI Nigeria. The code NA is text, not a missing value */
MODEL (
  name seed.country,
  kind SEED (
    path '../../seeds/countries.csv',
    csv_settings (keep_default_na = FALSE, na_values = (
        ''
    ))
  ),
  columns (
    country_code TEXT,
    country_name TEXT,
    iso3 TEXT,
    region_name TEXT,
    kind TEXT
  ),
  column_descriptions (
    country_code = 'Two characters, as USDA writes them',
    country_name = 'The name in the FAS API''s list of countries',
    iso3 = 'ISO 3166-1 alpha-3, NULL for what is no country of today; XKX, which ISO leaves to its users, is Kosovo',
    region_name = 'USDA''s region',
    kind = 'country, union (E2, E3, E4, Belgium-Luxembourg), former or other'
  ),
  grain country_code,
  audits (
    one_row_per_key(key := country_code, required := (region_name, kind)),
    accepted_values("column" := kind, is_in := ('country', 'union', 'former', 'other'))
  )
)
/* One row per country code in the served releases. PSD's codes are not ISO codes: BO is Belarus, NI Nigeria */
MODEL (
  name serving.dim_country,
  kind VIEW,
  grain country_code,
  column_descriptions (
    country_code = 'Two characters, as USDA writes them',
    country_name = 'The name in the newest release that shows it, at most 30 characters',
    iso3 = 'ISO 3166-1 alpha-3, for maps; NULL for unions, former countries, regions and codes that USDA added since. Kosovo is XKX',
    region_name = 'USDA''s region, NULL for codes that USDA added since',
    kind = 'country, union (E2, E3, E4, Belgium-Luxembourg), former or other'
  ),
  audits (
    one_row_per_key(key := country_code, required := (country_name, kind)),
    every_country_is_listed(blocking := FALSE)
  )
);

SELECT
  name.code::TEXT AS country_code,
  name.name::TEXT AS country_name,
  country.iso3::TEXT AS iso3,
  country.region_name::TEXT AS region_name,
  COALESCE(country.kind, 'other')::TEXT AS kind
FROM cleaned.cln_psdalldata__name AS name
LEFT JOIN seed.country AS country
  ON name.code = country.country_code
WHERE
  name.kind = 'country'
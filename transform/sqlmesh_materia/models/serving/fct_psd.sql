/* One row per version of a fact: the value USDA published and the days on which it was valid */
MODEL (
  name serving.fct_psd,
  kind VIEW,
  grain (commodity_code, country_code, market_year, attribute_id, unit_id, valid_from),
  column_descriptions (
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    country_code = 'Two characters',
    country_name = 'The country',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    attribute_name = 'The attribute',
    unit_id = 'Two digits',
    unit_name = 'The unit of value',
    value = 'In unit_name; USDA''s four decimals are exact in it',
    reported_month = 'First day of the month USDA stamped the value with when it first appeared, NULL for Month 00',
    valid_from = 'First day on which the value was surely public',
    valid_to = 'First day on which it was no longer valid, NULL while it is current',
    last_seen_on = 'The last release that shows it; between it and valid_to another value may have stood',
    market_year_now = 'The market year under which the newest release keys the crop: another one where the commodity was re-keyed since. Joins one crop over a re-keying'
  ),
  audits (
    one_row_per_key(
      key := (commodity_code, country_code, market_year, attribute_id, unit_id, valid_from),
      required := (unit_name, value, last_seen_on, market_year_now)
    ),
    one_unit_per_attribute
  )
);

SELECT
  version.commodity_code::TEXT,
  commodity.commodity_name::TEXT,
  version.country_code::TEXT,
  country.country_name::TEXT,
  version.market_year::SMALLINT,
  version.attribute_id::TEXT,
  attribute.attribute_name::TEXT,
  version.unit_id::TEXT,
  unit.name::TEXT AS unit_name,
  version.value::DOUBLE,
  version.reported_month::DATE,
  version.valid_from::DATE,
  version.valid_to::DATE,
  version.last_seen_on::DATE,
  version.market_year_now::SMALLINT
FROM cleaned.cln_psdalldata__fact_version AS version
LEFT JOIN cleaned.cln_psdalldata__name AS unit
  ON version.unit_id = unit.code AND unit.kind = 'unit'
LEFT JOIN serving.dim_commodity AS commodity
  ON version.commodity_code = commodity.commodity_code
LEFT JOIN serving.dim_country AS country
  ON version.country_code = country.country_code
LEFT JOIN serving.dim_attribute AS attribute
  ON version.attribute_id = attribute.attribute_id
/* One row per line of every landed CSV, every column as text, unchanged */
MODEL (
  name raw.psd_alldata,
  kind VIEW,
  columns (
    key TEXT,
    released_on DATE,
    commodity_code TEXT,
    commodity_description TEXT,
    country_code TEXT,
    country_name TEXT,
    market_year TEXT,
    calendar_year TEXT,
    month TEXT,
    attribute_id TEXT,
    attribute_description TEXT,
    unit_id TEXT,
    unit_description TEXT,
    value TEXT
  ),
  column_descriptions (
    key = 'The snapshot this line belongs to',
    released_on = 'The day USDA published that snapshot',
    commodity_code = 'Commodity_Code, seven digits',
    commodity_description = 'Commodity_Description',
    country_code = 'Country_Code, two characters',
    country_name = 'Country_Name, cut at 30 characters by USDA',
    market_year = 'Market_Year, four digits',
    calendar_year = 'Calendar_Year of the release that last touched the balance sheet',
    month = 'Month of that release, 00 where USDA does not say',
    attribute_id = 'Attribute_ID, three digits',
    attribute_description = 'Attribute_Description',
    unit_id = 'Unit_ID, two digits',
    unit_description = 'Unit_Description',
    value = 'Value, four decimals'
  ),
  ignored_rules ('nomissingaudits', 'ambiguousorinvalidcolumn')
);

SELECT
  key::TEXT,
  released_on::DATE,
  commodity_code::TEXT,
  commodity_description::TEXT,
  country_code::TEXT,
  country_name::TEXT,
  market_year::TEXT,
  calendar_year::TEXT,
  month::TEXT,
  attribute_id::TEXT,
  attribute_description::TEXT,
  unit_id::TEXT,
  unit_description::TEXT,
  value::TEXT
FROM @landing_rows('psd')
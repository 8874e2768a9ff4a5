/* One row per current balance sheet with names, and for every attribute its value and its unit */
MODEL (
  name serving.obt_commodity_metrics,
  kind VIEW,
  grain (commodity_code, country_code, market_year),
  column_descriptions (
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    country_code = 'Two characters',
    country_name = 'The country',
    market_year = 'USDA''s market year',
    market_date = '1 January of the market year: an axis for charts, because market years begin in different months',
    released_on = 'The newest release, whose sheet this is',
    last_changed_on = 'The release that first shows the youngest of the sheet''s values'
  ),
  audits (
    one_row_per_key(
      key := (commodity_code, country_code, market_year),
      required := (commodity_name, country_name, released_on)
    ),
    sheets_are_those_of_current_facts
  )
);

WITH unit AS (
  SELECT DISTINCT
    version.commodity_code,
    version.attribute_id::SMALLINT AS attribute_id,
    name.name
  FROM cleaned.cln_psdalldata__fact_version AS version
  JOIN cleaned.cln_psdalldata__name AS name
    ON version.unit_id = name.code AND name.kind = 'unit'
  WHERE
    version.valid_to IS NULL
), sheet_unit AS (
  SELECT
    commodity_code,
    @attribute_units(attribute_id, name)
  FROM unit
  GROUP BY
    commodity_code
)
SELECT
  sheet.commodity_code::TEXT,
  commodity.commodity_name::TEXT,
  sheet.country_code::TEXT,
  country.country_name::TEXT,
  sheet.market_year::SMALLINT,
  CONCAT(sheet.market_year::TEXT, '-01-01')::DATE AS market_date,
  sheet.released_on::DATE,
  sheet.last_changed_on::DATE,
  @attribute_columns(sheet, sheet_unit)
FROM cleaned.cln_psdalldata__commodity_pivoted AS sheet
JOIN sheet_unit
  ON sheet.commodity_code = sheet_unit.commodity_code
LEFT JOIN serving.dim_commodity AS commodity
  ON sheet.commodity_code = commodity.commodity_code
LEFT JOIN serving.dim_country AS country
  ON sheet.country_code = country.country_code
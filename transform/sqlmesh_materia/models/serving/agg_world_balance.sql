/* One row per commodity, market year and attribute: the exact sum of the current values over all countries, the rows of WORLD in agg_group_balance. Rates cannot be summed: yield and milling rate are computed from sums, other rates are left out */
MODEL (
  name serving.agg_world_balance,
  kind VIEW,
  grain (commodity_code, market_year, attribute_id, unit_name),
  column_descriptions (
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    attribute_name = 'The attribute',
    unit_name = 'The unit of value',
    value = 'The sum over countries, or the quotient of two such sums for a rate',
    countries = 'How many countries have a balance sheet of the commodity in this market year',
    is_complete = 'Whether the countries cover the world, judged by trade: their exports and imports differ by at most a tenth of their production. False if importers are missing, as in coffee before market year 2003; NULL if nothing is traded or produced',
    implied_use = 'Beginning stocks + production - ending stocks of the world, which is what WASDE prints as world use; on rows of the same unit, NULL where one of the three is missing'
  ),
  audits (
    one_row_per_key(
      key := (commodity_code, market_year, attribute_id, unit_name),
      required := (commodity_name, attribute_name, value, countries)
    )
  )
);

SELECT
  commodity_code::TEXT,
  commodity_name::TEXT,
  market_year::SMALLINT,
  attribute_id::TEXT,
  attribute_name::TEXT,
  unit_name::TEXT,
  value::DOUBLE,
  countries::INT,
  is_complete::BOOLEAN,
  implied_use::DOUBLE
FROM serving.agg_group_balance
WHERE
  group_code = 'WORLD'
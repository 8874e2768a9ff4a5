/* One row per commodity that USDA updates on WASDE release days only: grains, oilseeds and their products, cotton */
MODEL (
  name seed.wasde_cycle_commodity,
  kind SEED (
    path '../../seeds/wasde_cycle_commodities.csv'
  ),
  columns (
    commodity_code TEXT,
    commodity_name TEXT,
    bushel_lb DOUBLE,
    market_year_begins INT
  ),
  column_descriptions (
    commodity_code = 'Seven digits',
    commodity_name = 'The name in the FAS API''s list of commodities',
    bushel_lb = 'Pounds a bushel, NULL where it is not measured in bushels. Source: USDA, Agricultural Handbook 697',
    market_year_begins = 'The month in which the market year of the United States begins, 1 to 12, as WASDE prints it; NULL where WASDE prints none'
  ),
  grain commodity_code,
  audits (
    unique_values(columns := (
      commodity_code
    ))
  )
)
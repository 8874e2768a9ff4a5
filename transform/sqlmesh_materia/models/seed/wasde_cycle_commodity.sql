/* One row per commodity that USDA updates on WASDE release days only: grains, oilseeds and their products, cotton */
MODEL (
  name seed.wasde_cycle_commodity,
  kind SEED (
    path '../../seeds/wasde_cycle_commodities.csv'
  ),
  columns (
    commodity_code TEXT,
    commodity_name TEXT
  ),
  column_descriptions (
    commodity_code = 'Seven digits',
    commodity_name = 'The name in the FAS API''s list of commodities'
  ),
  grain commodity_code,
  audits (
    unique_values(columns := (
      commodity_code
    ))
  )
)
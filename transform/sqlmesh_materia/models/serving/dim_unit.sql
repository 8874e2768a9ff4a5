/* One row per unit: those of PSD (the FAS API's list as of 2026-10-23) and those that reports use. `convert` accepts unit_id, unit_name and other_names.
Constants: a pound is 0.45359237 kg and an acre 0.40468564224 ha by definition (international yard and pound, 1959) */
MODEL (
  name serving.dim_unit,
  kind SEED (
    path '../../seeds/units.csv',
    csv_settings (keep_default_na = FALSE, na_values = (
        ''
    ))
  ),
  columns (
    unit_id TEXT,
    unit_name TEXT,
    quantity TEXT,
    factor_to_base DOUBLE,
    base_unit TEXT,
    bushels DOUBLE,
    other_names TEXT
  ),
  column_descriptions (
    unit_id = 'Two digits as USDA writes them; a short name for units that PSD does not use',
    unit_name = 'The name, for PSD''s units as USDA writes it',
    quantity = 'What it measures: mass, area, yield, volume, head, ratio and others. Only units of one quantity convert into each other',
    factor_to_base = 'How many base units it is. NULL for bushels, whose mass depends on the crop (dim_commodity.bushel_kg), and for rates that convert into nothing',
    base_unit = 'The base unit of the quantity',
    bushels = 'How many bushels (a yield: bushels a hectare) it is, NULL for units that are none of bushels',
    other_names = 'Other names that `convert` accepts, separated by |'
  ),
  grain unit_id,
  audits (
    one_row_per_key(key := unit_id, required := (unit_name, quantity, base_unit))
  )
)
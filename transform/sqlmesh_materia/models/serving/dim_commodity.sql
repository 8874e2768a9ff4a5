/* One row per commodity */
MODEL (
  name serving.dim_commodity,
  kind VIEW,
  optimize_query TRUE, /* Unit tests that give some of its columns need the types of the others */
  grain commodity_code,
  column_descriptions (
    commodity_code = 'Seven digits, as USDA writes them',
    commodity_name = 'The name in the newest release that shows it, at most 30 characters',
    is_wasde_cycle = 'Whether USDA updates it on WASDE release days only, as grains, oilseeds, their products and cotton',
    bushel_kg = 'Kilograms a bushel, NULL where it is not measured in bushels. From the pounds of USDA''s Agricultural Handbook 697',
    market_year_begins = 'The month in which the market year of the United States begins, 1 to 12, as WASDE prints it; other countries have market years of their own. NULL where WASDE prints none'
  ),
  audits (
    one_row_per_key(key := commodity_code, required := (commodity_name, is_wasde_cycle))
  )
);

SELECT
  name.code::TEXT AS commodity_code,
  name.name::TEXT AS commodity_name,
  (
    NOT cycle.commodity_code IS NULL
  )::BOOLEAN AS is_wasde_cycle,
  (
    cycle.bushel_lb * 0.45359237
  )::DOUBLE AS bushel_kg,
  cycle.market_year_begins::SMALLINT AS market_year_begins
FROM cleaned.cln_psdalldata__name AS name
LEFT JOIN staging.stg_usda__wasde_cycle_commodity AS cycle
  ON name.code = cycle.commodity_code
WHERE
  name.kind = 'commodity'
AUDIT (
  name one_unit_per_attribute
);

/* A commodity's attribute in two units at once: obt_commodity_metrics has one column for it and would mislabel one of them */
SELECT
  commodity_code,
  attribute_id,
  COUNT(DISTINCT unit_id) AS units,
  MIN(unit_name) AS one_unit,
  MAX(unit_name) AS other_unit
FROM @this_model
WHERE
  valid_to IS NULL
GROUP BY
  commodity_code,
  attribute_id
HAVING
  COUNT(DISTINCT unit_id) > 1;

AUDIT (
  name change_fits_its_kind
);

/* A new fact had no value before, a removed one has none now, a revised one has another, a restated one the same or none */
SELECT
  released_on,
  commodity_code,
  country_code,
  market_year,
  attribute_id,
  change_kind,
  previous_value,
  value
FROM @this_model
WHERE
  NOT CASE change_kind
    WHEN 'new'
    THEN previous_value IS NULL AND NOT value IS NULL
    WHEN 'removed'
    THEN NOT previous_value IS NULL AND value IS NULL
    WHEN 'revised'
    THEN NOT previous_value IS NULL AND NOT value IS NULL AND previous_value <> value
    ELSE NOT previous_value IS NULL AND COALESCE(value = previous_value, TRUE)
  END;

AUDIT (
  name sheets_are_those_of_current_facts
);

/* A row per balance sheet that the newest release shows, no row more or less */
WITH sheet AS (
  SELECT DISTINCT
    commodity_code,
    country_code,
    market_year
  FROM cleaned.cln_psdalldata__fact_version
  WHERE
    valid_to IS NULL
), served AS (
  SELECT
    commodity_code,
    country_code,
    market_year
  FROM @this_model
)
SELECT
  COALESCE(sheet.commodity_code, served.commodity_code) AS commodity_code,
  COALESCE(sheet.country_code, served.country_code) AS country_code,
  COALESCE(sheet.market_year, served.market_year) AS market_year
FROM sheet
FULL JOIN served
  ON sheet.commodity_code = served.commodity_code
  AND sheet.country_code = served.country_code
  AND sheet.market_year = served.market_year
WHERE
  sheet.commodity_code IS NULL OR served.commodity_code IS NULL;

AUDIT (
  name a_sum_without_its_members_has_no_value
);

/* A group's sum that lacks a member is NULL, and no other is */
SELECT
  group_code,
  commodity_code,
  market_year,
  attribute_id,
  value,
  countries_missing
FROM @this_model
WHERE
  (
    countries_missing > 0
  ) <> (
    value IS NULL
  )
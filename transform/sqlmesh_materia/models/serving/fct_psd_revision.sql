/* One row per fact that a release changed; the earliest release is the baseline and has none */
MODEL (
  name serving.fct_psd_revision,
  kind VIEW,
  grain (released_on, commodity_code, country_code, market_year, attribute_id, unit_id),
  column_descriptions (
    released_on = 'The day USDA published the release with the change',
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    country_code = 'Two characters',
    country_name = 'The country',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    attribute_name = 'The attribute',
    unit_id = 'Two digits',
    unit_name = 'The unit of the values',
    change_kind = 'new, revised, removed, or restated: the same value under another market year',
    previous_market_year = 'The market year of the value in the previous release; differs from market_year in a re-keyed commodity',
    previous_value = 'The value in the previous release, NULL for a new fact',
    value = 'The value in this release, NULL for a removed fact',
    change = 'value minus previous_value, NULL if either is NULL',
    change_pct = 'change in per cent of previous_value, NULL if that is NULL or 0',
    change_z = 'How unusual the change is: its distance in standard deviations from the mean of all changes of that commodity''s attribute in the same calendar month, in this release and the ones before. NULL without a release of that month in an earlier year',
    is_driver = 'False for what follows from other changes of the release: totals of which a part changed, ending stocks, supply, totals of trade years, rates, and beginning stocks that changed like the ending stocks of the year before. False for restated rows'
  ),
  audits (
    one_row_per_key(
      key := (released_on, commodity_code, country_code, market_year, attribute_id, unit_id),
      required := (unit_name, is_driver)
    ),
    accepted_values("column" := change_kind, is_in := ('new', 'revised', 'removed', 'restated')),
    change_fits_its_kind
  )
);

WITH counted AS (
  /* Count, sum and sum of squares add up over releases: no row is compared with all others */
  SELECT
    released_on,
    commodity_code,
    attribute_id,
    unit_id,
    MONTH(released_on) AS month,
    COUNT(value - previous_value) AS changes,
    SUM((
      value - previous_value
    )::DOUBLE) AS total,
    SUM((
      value - previous_value
    )::DOUBLE * (
      value - previous_value
    )::DOUBLE) AS squares
  FROM cleaned.cln_psdalldata__revision
  WHERE
    change_kind = 'revised'
  GROUP BY
    released_on,
    commodity_code,
    attribute_id,
    unit_id
), summed AS (
  SELECT
    released_on,
    commodity_code,
    attribute_id,
    unit_id,
    MIN(released_on) OVER history AS first_on,
    SUM(changes) OVER history AS changes,
    SUM(total) OVER history AS total,
    SUM(squares) OVER history AS squares
  FROM counted
  WINDOW history AS (PARTITION BY commodity_code, attribute_id, unit_id, month ORDER BY released_on)
), history AS (
  SELECT
    released_on,
    commodity_code,
    attribute_id,
    unit_id,
    total / changes AS mean,
    squares / changes - total / changes * total / changes AS variance,
    squares / changes AS mean_square
  FROM summed
  WHERE
    YEAR(first_on) < YEAR(released_on)
)
SELECT
  revision.released_on::DATE,
  revision.commodity_code::TEXT,
  commodity.commodity_name::TEXT,
  revision.country_code::TEXT,
  country.country_name::TEXT,
  revision.market_year::SMALLINT,
  revision.attribute_id::TEXT,
  attribute.attribute_name::TEXT,
  revision.unit_id::TEXT,
  unit.name::TEXT AS unit_name,
  revision.change_kind::TEXT,
  revision.previous_market_year::SMALLINT,
  revision.previous_value::DOUBLE,
  revision.value::DOUBLE,
  (
    revision.value - revision.previous_value
  )::DOUBLE AS change,
  (
    100 * (
      revision.value - revision.previous_value
    )::DOUBLE / ABS(NULLIF(revision.previous_value, 0))::DOUBLE
  )::DOUBLE AS change_pct,
  CASE
    WHEN revision.change_kind = 'revised'
    THEN (
      (
        revision.value - revision.previous_value
      )::DOUBLE - history.mean
    ) / CASE
      WHEN history.variance > 1e-9 * history.mean_square
      THEN SQRT(history.variance)
    END
  END::DOUBLE AS change_z,
  revision.is_driver::BOOLEAN
FROM cleaned.cln_psdalldata__revision AS revision
LEFT JOIN history
  ON revision.released_on = history.released_on
  AND revision.commodity_code = history.commodity_code
  AND revision.attribute_id = history.attribute_id
  AND revision.unit_id = history.unit_id
LEFT JOIN cleaned.cln_psdalldata__name AS unit
  ON revision.unit_id = unit.code AND unit.kind = 'unit'
LEFT JOIN serving.dim_commodity AS commodity
  ON revision.commodity_code = commodity.commodity_code
LEFT JOIN serving.dim_country AS country
  ON revision.country_code = country.country_code
LEFT JOIN serving.dim_attribute AS attribute
  ON revision.attribute_id = attribute.attribute_id
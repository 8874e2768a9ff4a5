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
    change = 'value minus previous_value, NULL if either is NULL'
  ),
  audits (
    one_row_per_key(
      key := (released_on, commodity_code, country_code, market_year, attribute_id, unit_id),
      required := unit_name
    ),
    accepted_values("column" := change_kind, is_in := ('new', 'revised', 'removed', 'restated')),
    change_fits_its_kind
  )
);

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
  )::DOUBLE AS change
FROM cleaned.cln_psdalldata__revision AS revision
LEFT JOIN cleaned.cln_psdalldata__name AS unit
  ON revision.unit_id = unit.code AND unit.kind = 'unit'
LEFT JOIN serving.dim_commodity AS commodity
  ON revision.commodity_code = commodity.commodity_code
LEFT JOIN serving.dim_country AS country
  ON revision.country_code = country.country_code
LEFT JOIN serving.dim_attribute AS attribute
  ON revision.attribute_id = attribute.attribute_id
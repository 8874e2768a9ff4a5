AUDIT (
  name every_attribute_has_a_column
);

/* An attribute that USDA invented: its facts are served, and the pivoted sheet lacks its column until macros/attributes.py names it */
SELECT
  attribute_id,
  attribute_name
FROM @this_model
WHERE
  NOT @has_column(attribute_id);

AUDIT (
  name every_country_is_listed
);

/* A country code that USDA added: it is served, and has neither ISO code nor region until seeds/countries.csv lists it */
SELECT
  country_code,
  country_name
FROM @this_model
WHERE
  region_name IS NULL
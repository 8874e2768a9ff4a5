AUDIT (
  name every_attribute_has_a_column
);

/* An attribute that USDA invented: its facts are served, and the pivoted sheet lacks its column until macros/attributes.py names it */
SELECT
  attribute_id,
  attribute_name
FROM @this_model
WHERE
  NOT @has_column(attribute_id)
AUDIT (
  name every_attribute_has_a_column
) /* An attribute that USDA added and COLUMN_OF_ATTRIBUTE does not name yet: add it in macros/attributes.py */;

SELECT
  attribute_id,
  attribute_name
FROM @this_model
WHERE
  NOT @has_column(attribute_id)

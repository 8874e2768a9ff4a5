AUDIT (
  name every_attribute_has_a_column
);

SELECT
  attribute_id,
  attribute_name
FROM @this_model
WHERE
  NOT @has_column(attribute_id)
AUDIT (
  name one_row_per_key,
  defaults (
    required = ()
  )
);

/* The key columns identify a row, and neither they nor the required columns are NULL; one pass over the model */
SELECT
  @EACH(@key, column_ -> column_),
  COUNT(*) AS row_count
FROM @this_model
GROUP BY
  @EACH(@key, column_ -> column_)
HAVING
  COUNT(*) > 1
  OR COUNT(*) FILTER(WHERE
    @OR(
      @EACH(@key, column_ -> column_ IS NULL),
      @EACH(@required, column_ -> column_ IS NULL)
    )) > 0
AUDIT (
  name accounts_for_every_row
);

/* Facts gained less facts lost is the difference in rows of the two snapshots, as their markers say */
WITH counted AS (
  SELECT
    ingest_date AS released_on,
    COUNT(*) FILTER(WHERE
      previous_value IS NULL) - COUNT(*) FILTER(WHERE
      value IS NULL) AS gained
  FROM @this_model
  GROUP BY
    ingest_date
), expected AS (
  SELECT
    released_on,
    row_count - COALESCE(LAG(row_count) OVER (ORDER BY released_on), 0) AS gained
  FROM staging.stg_psdalldata__release
)
SELECT
  released_on,
  expected.gained AS rows_gained_by_marker,
  COALESCE(counted.gained, 0) AS rows_gained_in_staging
FROM expected
LEFT JOIN counted
  USING (released_on)
WHERE
  released_on BETWEEN @start_date AND @end_date
  AND expected.gained <> COALESCE(counted.gained, 0)
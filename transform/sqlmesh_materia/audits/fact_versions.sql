AUDIT (
  name versions_follow_each_other
);

/* A version ends after it began, and was last seen before its successor was the truth */
SELECT
  hkey,
  valid_from,
  valid_to,
  last_seen_on
FROM @this_model
WHERE
  valid_to <= valid_from OR last_seen_on >= valid_to OR last_seen_on < first_seen_on;

AUDIT (
  name current_versions_are_the_newest_snapshot
);

/* What is current is what the newest snapshot holds, no row more or less */
WITH newest AS (
  SELECT
    released_on,
    row_count
  FROM staging.stg_psdalldata__release
  WHERE
    released_on = (
      SELECT
        MAX(last_seen_on)
      FROM @this_model
    )
), current_version AS (
  SELECT
    COUNT(*) AS row_count
  FROM @this_model
  WHERE
    valid_to IS NULL
)
SELECT
  newest.released_on,
  newest.row_count AS rows_in_snapshot,
  current_version.row_count AS current_versions
FROM newest
CROSS JOIN current_version
WHERE
  newest.row_count <> current_version.row_count
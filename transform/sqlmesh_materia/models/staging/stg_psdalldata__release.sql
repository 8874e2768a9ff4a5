/* One row per release, ordered by release month, then by time of publication. Of several snapshots of one month and day the last counts */
MODEL (
  name staging.stg_psdalldata__release,
  kind VIEW,
  grain released_on,
  column_descriptions (
    released_on = 'The day USDA published the release, a day later than its predecessor at least; the time axis of everything',
    key = 'The snapshot that counts for this release',
    etag = 'Its ETag as served',
    release_month = 'First day of the release month',
    published_at = 'The moment of publication in Washington time, NULL when nothing plausible says it',
    landed_as = 'The day under which the snapshot''s rows are landed; differs from released_on only where two releases share a day',
    row_count = 'Facts in the snapshot, as its marker says',
    shown_from = 'The first day on which the file is evidence of what stood: later than released_on for a correction that was published long after its month, and the next release''s day for one that was published after that',
    public_from = 'The day from which a change counts that this release shows first: shown_from, but before the next release',
    next_release_due = 'The first day on which USDA may release WASDE after this release: listed in USDA''s calendar, or the earliest usual day of a month beyond it',
    previous_released_on = 'The release before this one, NULL for the earliest',
    previous_key = 'The snapshot of the release before',
    previous_landed_as = 'The day under which its rows are landed',
    previous_shown_from = 'The first day on which its file is evidence',
    previous_next_release_due = 'When the release after it was due, landed or not'
  ),
  audits (
    not_null(columns := (released_on, key, row_count, shown_from, next_release_due)),
    unique_values(columns := (released_on, key))
  )
);

WITH source AS (
  SELECT
    key,
    etag,
    CONCAT(release_year::TEXT, '-', LPAD(release_month::TEXT, 2, '0'), '-01')::DATE AS release_month,
    released_on,
    published_at,
    COALESCE(published_at, '0001-01-01'::TIMESTAMP) AS ordered_at,
    row_count
  FROM raw.psd_snapshot
), ranked AS (
  SELECT
    key,
    etag,
    release_month,
    released_on,
    published_at,
    ordered_at,
    row_count,
    ROW_NUMBER() OVER (PARTITION BY release_month, released_on ORDER BY ordered_at DESC, key DESC) AS rank
  FROM source
), ordered AS (
  SELECT
    key,
    etag,
    release_month,
    released_on AS landed_as,
    published_at,
    row_count,
    DATE_DIFF('DAY', '1970-01-01'::DATE, released_on) AS day_number,
    ROW_NUMBER() OVER (ORDER BY release_month, ordered_at, key) AS position
  FROM ranked
  WHERE
    rank = 1
), placed AS (
  /* The running maximum that adds a day on a clash, in closed form: it depends on the landed set, not on the order of landing */
  SELECT
    key,
    etag,
    release_month,
    landed_as,
    published_at,
    row_count,
    (
      '1970-01-01'::DATE + INTERVAL '1' DAY * (
        position + MAX(day_number - position) OVER (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
      )
    )::DATE AS released_on
  FROM ordered
), followed AS (
  SELECT
    key,
    etag,
    release_month,
    landed_as,
    published_at,
    row_count,
    released_on,
    GREATEST(released_on, COALESCE(published_at::DATE, released_on)) AS evident_from,
    LEAD(released_on) OVER (ORDER BY released_on) AS next_released_on
  FROM placed
), due AS (
  SELECT
    followed.released_on,
    MIN(day.released_at_washington::DATE) AS listed_on
  FROM followed
  JOIN seed.wasde_release_day AS day
    ON day.released_at_washington::DATE > followed.released_on
  GROUP BY
    followed.released_on
), shown AS (
  SELECT
    followed.key,
    followed.etag,
    followed.release_month,
    followed.landed_as,
    followed.published_at,
    followed.row_count,
    followed.released_on,
    LEAST(followed.evident_from, COALESCE(followed.next_released_on, followed.evident_from)) AS shown_from,
    LEAST(
      followed.evident_from,
      COALESCE((
        followed.next_released_on - INTERVAL '1' DAY
      )::DATE, followed.evident_from)
    ) AS public_from,
    COALESCE(due.listed_on, @earliest_release_day(followed.released_on)) AS next_release_due
  FROM followed
  LEFT JOIN due
    ON followed.released_on = due.released_on
), final AS (
  SELECT
    released_on,
    key,
    etag,
    release_month,
    published_at,
    landed_as,
    row_count,
    shown_from,
    public_from,
    next_release_due,
    LAG(released_on) OVER (ORDER BY released_on) AS previous_released_on,
    LAG(key) OVER (ORDER BY released_on) AS previous_key,
    LAG(landed_as) OVER (ORDER BY released_on) AS previous_landed_as,
    LAG(shown_from) OVER (ORDER BY released_on) AS previous_shown_from,
    LAG(next_release_due) OVER (ORDER BY released_on) AS previous_next_release_due
  FROM shown
)
SELECT
  released_on::DATE,
  key::TEXT,
  etag::TEXT,
  release_month::DATE,
  published_at::TIMESTAMP,
  landed_as::DATE,
  row_count::BIGINT,
  shown_from::DATE,
  public_from::DATE,
  next_release_due::DATE,
  previous_released_on::DATE,
  previous_key::TEXT,
  previous_landed_as::DATE,
  previous_shown_from::DATE,
  previous_next_release_due::DATE
FROM final
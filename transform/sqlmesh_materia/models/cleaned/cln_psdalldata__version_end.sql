/* One row per ended version of a fact, with the day it ceased to be valid. Holds changed facts only, so its size follows the number of changes */
MODEL (
  name cleaned.cln_psdalldata__version_end,
  kind FULL,
  grain (hkey, first_seen_on),
  column_descriptions (
    hkey = 'The fact''s stable key',
    first_seen_on = 'The first release that shows the version',
    last_seen_on = 'The last release that shows it',
    valid_to = 'First day on which it was no longer valid'
  ),
  audits (
    one_row_per_key(key := (hkey, first_seen_on), required := (last_seen_on, valid_to))
  )
);

WITH source AS (
  SELECT
    changed.hkey,
    changed.ingest_date,
    changed.compared_with,
    CASE
      WHEN rekeying.years IS NULL
      THEN changed.valid_from
      ELSE changed.public_from
    END AS valid_from
  FROM staging.stg_psdalldata__commodity AS changed
  LEFT JOIN cleaned.cln_psdalldata__rekeying AS rekeying
    ON changed.ingest_date = rekeying.released_on
    AND changed.commodity_code = rekeying.commodity_code
  WHERE
    changed.hkey IN (
      SELECT
        hkey
      FROM staging.stg_psdalldata__commodity
      WHERE
        NOT compared_with IS NULL
    )
), final AS (
  SELECT
    hkey,
    ingest_date,
    LEAD(compared_with) OVER (PARTITION BY hkey ORDER BY ingest_date) AS last_seen_on,
    LEAD(valid_from) OVER (PARTITION BY hkey ORDER BY ingest_date) AS valid_to
  FROM source
)
SELECT
  hkey::BIGINT,
  ingest_date::DATE AS first_seen_on,
  last_seen_on::DATE,
  valid_to::DATE
FROM final
WHERE
  NOT valid_to IS NULL
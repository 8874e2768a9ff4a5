/* One row per release and commodity whose market years the release moved: most changed values equal the previous release's values of the adjacent year */
MODEL (
  name cleaned.cln_psdalldata__rekeying,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column (released_on, '%Y-%m-%d')
  ),
  grain (released_on, commodity_code),
  column_descriptions (
    released_on = 'The day USDA published the release that moved them',
    commodity_code = 'Seven digits',
    years = 'Years by which they moved: 1 or -1'
  ),
  audits (
    one_row_per_key(key := (released_on, commodity_code), required := years)
  )
);

WITH release AS (
  SELECT
    released_on,
    previous_key,
    previous_landed_as
  FROM staging.stg_psdalldata__release
  WHERE
    released_on BETWEEN @start_date AND @end_date
    AND NOT previous_released_on IS NULL
), changed AS (
  SELECT
    ingest_date AS released_on,
    hkey,
    commodity_code,
    value
  FROM staging.stg_psdalldata__commodity
  WHERE
    ingest_date BETWEEN @start_date AND @end_date AND NOT compared_with IS NULL
), sheet_count AS (
  SELECT
    release.released_on,
    fact.commodity_code,
    COUNT(*) AS facts_before
  FROM staging.stg_psdalldata__fact AS fact
  JOIN release
    ON fact.released_on = release.previous_landed_as AND fact.key = release.previous_key
  GROUP BY
    release.released_on,
    fact.commodity_code
), suspect AS (
  /* A re-keying touches most of a commodity; a fifth is far above any month's revisions */
  SELECT
    sheet_count.released_on,
    sheet_count.commodity_code
  FROM sheet_count
  JOIN changed
    USING (released_on, commodity_code)
  GROUP BY
    sheet_count.released_on,
    sheet_count.commodity_code
  HAVING
    COUNT(*) >= 0.2 * MAX(sheet_count.facts_before)
), shown_before AS (
  SELECT
    release.released_on,
    fact.hkey,
    fact.value
  FROM staging.stg_psdalldata__fact AS fact
  JOIN release
    ON fact.released_on = release.previous_landed_as AND fact.key = release.previous_key
  JOIN suspect
    ON release.released_on = suspect.released_on
    AND fact.commodity_code = suspect.commodity_code
), explained AS (
  SELECT
    changed.released_on,
    changed.commodity_code,
    shift.years,
    COUNT(*) AS facts_shown,
    COUNT(*) FILTER(WHERE
      changed.value = shown_before.value) AS facts_explained,
    COUNT(*) FILTER(WHERE
      changed.value = shown_before.value AND changed.value <> 0) AS telling_facts
  FROM changed
  JOIN suspect
    USING (released_on, commodity_code)
  CROSS JOIN (VALUES
    (-1),
    (1)) AS shift(years)
  LEFT JOIN shown_before
    ON changed.released_on = shown_before.released_on
    AND changed.hkey - @hkey_shift(shift.years) = shown_before.hkey
  WHERE
    NOT changed.value IS NULL
  GROUP BY
    changed.released_on,
    changed.commodity_code,
    shift.years
), final AS (
  /* Zeros agree with zeros by chance, so some of the agreement must be in other values */
  SELECT
    released_on,
    commodity_code,
    ARG_MAX(years, facts_explained) AS years
  FROM explained
  WHERE
    facts_explained >= 0.8 * facts_shown AND telling_facts >= 5
  GROUP BY
    released_on,
    commodity_code
)
SELECT
  released_on::DATE,
  commodity_code::TEXT,
  years::SMALLINT
FROM final
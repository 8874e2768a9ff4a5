/* One row per balance sheet and release that touched it, where the release leaves open what stood since the one before; and one per sheet that begins or ceases to be without a stamp */
MODEL (
  name staging.stg_psdalldata__restamp,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column (ingest_date, '%Y-%m-%d')
  ),
  grain (ingest_date, commodity_code, country_code, market_year),
  column_descriptions (
    ingest_date = 'The day USDA published the release (its released_on)',
    compared_with = 'The release before it, NULL for the earliest',
    commodity_code = 'Seven digits',
    country_code = 'Two characters',
    market_year = 'USDA''s market year',
    reported_month = 'First day of the month that the release stamps the sheet with, NULL for Month 00',
    previous_month = 'The stamp in the release before, NULL for Month 00 and for a new sheet',
    uncertain_from = 'First day on which a posting that is not landed may have touched the sheet',
    uncertain_to = 'Last day before what the release shows surely stood; before uncertain_from where nothing is open'
  ),
  audits (
    one_row_per_key(
      key := (ingest_date, commodity_code, country_code, market_year),
      required := (uncertain_from, uncertain_to)
    )
  )
);

WITH release AS (
  SELECT
    released_on,
    key,
    landed_as,
    shown_from,
    previous_released_on,
    previous_key,
    previous_landed_as,
    previous_next_release_due,
    COALESCE(previous_shown_from, '0001-01-01'::DATE) AS previous_shown_from
  FROM staging.stg_psdalldata__release
  WHERE
    released_on BETWEEN @start_date AND @end_date
), shown AS (
  SELECT
    release.released_on AS ingest_date,
    fact.commodity_code,
    fact.country_code,
    fact.market_year,
    CASE WHEN COUNT(*) = COUNT(fact.reported_month) THEN MAX(fact.reported_month) END AS reported_month
  FROM staging.stg_psdalldata__fact AS fact
  JOIN release
    ON fact.released_on = release.landed_as AND fact.key = release.key
  GROUP BY
    release.released_on,
    fact.commodity_code,
    fact.country_code,
    fact.market_year
), shown_before AS (
  SELECT
    release.released_on AS ingest_date,
    fact.commodity_code,
    fact.country_code,
    fact.market_year,
    CASE WHEN COUNT(*) = COUNT(fact.reported_month) THEN MAX(fact.reported_month) END AS reported_month
  FROM staging.stg_psdalldata__fact AS fact
  JOIN release
    ON fact.released_on = release.previous_landed_as AND fact.key = release.previous_key
  GROUP BY
    release.released_on,
    fact.commodity_code,
    fact.country_code,
    fact.market_year
), changed AS (
  SELECT DISTINCT
    ingest_date,
    commodity_code,
    country_code,
    market_year
  FROM staging.stg_psdalldata__commodity
  WHERE
    ingest_date BETWEEN @start_date AND @end_date AND NOT compared_with IS NULL
), touched AS (
  /* Touched: another stamp, or other facts under the same stamp, which is then disproved. Without a stamp nothing tells */
  SELECT
    shown.ingest_date,
    shown.commodity_code,
    shown.country_code,
    shown.market_year,
    shown.reported_month,
    shown_before.reported_month AS previous_month,
    shown_before.ingest_date IS NULL AS is_new
  FROM shown
  LEFT JOIN shown_before
    ON shown.ingest_date = shown_before.ingest_date
    AND shown.commodity_code = shown_before.commodity_code
    AND shown.country_code = shown_before.country_code
    AND shown.market_year = shown_before.market_year
  LEFT JOIN changed
    ON shown.ingest_date = changed.ingest_date
    AND shown.commodity_code = changed.commodity_code
    AND shown.country_code = changed.country_code
    AND shown.market_year = changed.market_year
  WHERE
    CASE
      WHEN shown_before.ingest_date IS NULL
      THEN shown.reported_month IS NULL
      ELSE shown.reported_month IS DISTINCT FROM shown_before.reported_month
      OR NOT shown.reported_month IS NULL
      AND NOT changed.ingest_date IS NULL
    END
), dated AS (
  SELECT
    touched.ingest_date,
    release.previous_released_on AS compared_with,
    touched.commodity_code,
    touched.country_code,
    touched.market_year,
    touched.reported_month,
    touched.previous_month,
    touched.is_new,
    release.shown_from,
    release.previous_released_on,
    CASE
      WHEN @stamp_is_proof(
        touched.reported_month,
        touched.previous_month,
        LAST_DAY(touched.reported_month),
        release.previous_shown_from
      )
      THEN LAST_DAY(touched.reported_month)
    END AS stamped_from,
    CASE
      WHEN cycle.commodity_code IS NULL
      OR release.previous_shown_from > release.previous_released_on
      THEN release.previous_released_on
      ELSE (
        release.previous_next_release_due - INTERVAL '1' DAY
      )::DATE
    END AS stands_until
  FROM touched
  JOIN release
    ON touched.ingest_date = release.released_on
  LEFT JOIN staging.stg_usda__wasde_cycle_commodity AS cycle
    ON touched.commodity_code = cycle.commodity_code
), final AS (
  /* A stamp of a month that ends before the next posting was due tells of one that USDA's calendar does not list */
  SELECT
    ingest_date,
    compared_with,
    commodity_code,
    country_code,
    market_year,
    reported_month,
    previous_month,
    is_new,
    COALESCE(
      (
        CASE
          WHEN stamped_from <= stands_until
          THEN previous_released_on
          ELSE stands_until
        END + INTERVAL '1' DAY
      )::DATE,
      ingest_date
    ) AS uncertain_from,
    (
      LEAST(COALESCE(stamped_from, shown_from), shown_from) - INTERVAL '1' DAY
    )::DATE AS uncertain_to
  FROM dated
)
SELECT
  ingest_date::DATE,
  compared_with::DATE,
  commodity_code::TEXT,
  country_code::TEXT,
  market_year::SMALLINT,
  reported_month::DATE,
  previous_month::DATE,
  uncertain_from::DATE,
  uncertain_to::DATE
FROM final
WHERE
  uncertain_from <= uncertain_to OR reported_month IS NULL OR previous_month IS NULL
ORDER BY
  ingest_date,
  commodity_code,
  country_code,
  market_year
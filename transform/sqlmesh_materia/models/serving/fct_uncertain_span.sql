/* One row per balance sheet and span of days on which it may have shown other values than the landed releases around these days: a file that is not landed changed it, or the stamps are missing. Empty if every month of a WASDE commodity is landed */
MODEL (
  name serving.fct_uncertain_span,
  kind FULL,
  grain (commodity_code, country_code, market_year, uncertain_from, reason),
  column_descriptions (
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    country_code = 'Two characters; NULL: every sheet of the commodity',
    country_name = 'The country; NULL: every sheet of the commodity',
    market_year = 'USDA''s market year; NULL: every sheet of the commodity',
    uncertain_from = 'First day',
    uncertain_to = 'Last day, NULL where no release ends the span',
    reason = 'touched: the next landed release has another stamp, or other values under the same stamp. rekeyed: a re-keying lies between two releases. unstamped: Month 00, so that only the days on which a landed release surely stood are certain'
  ),
  audits (
    not_null(columns := (commodity_code, uncertain_from, reason)),
    accepted_values("column" := reason, is_in := ('touched', 'rekeyed', 'unstamped'))
  )
);

WITH stamp AS (
  SELECT
    commodity_code,
    country_code,
    market_year,
    ingest_date,
    reported_month,
    uncertain_from,
    uncertain_to,
    LEAD(uncertain_to) OVER (PARTITION BY commodity_code, country_code, market_year ORDER BY ingest_date) AS unstamped_to
  FROM staging.stg_psdalldata__restamp
), rekeyed AS (
  SELECT
    rekeying.commodity_code,
    release.released_on
  FROM cleaned.cln_psdalldata__rekeying AS rekeying
  JOIN staging.stg_psdalldata__release AS release
    ON rekeying.released_on = release.released_on
  UNION
  SELECT
    known.commodity_code,
    release.released_on
  FROM staging.stg_usda__known_rekeying AS known
  JOIN cleaned.cln_psdalldata__name AS name
    ON known.commodity_code = name.code AND name.kind = 'commodity'
  JOIN staging.stg_psdalldata__release AS release
    ON release.released_on > known.shown_before_on
    AND release.previous_released_on < known.shown_after_on
), rekeyed_span AS (
  SELECT
    rekeyed.commodity_code,
    CASE
      WHEN cycle.commodity_code IS NULL
      OR release.previous_shown_from > release.previous_released_on
      THEN (
        release.previous_released_on + INTERVAL '1' DAY
      )::DATE
      ELSE release.previous_next_release_due
    END AS uncertain_from,
    (
      release.shown_from - INTERVAL '1' DAY
    )::DATE AS uncertain_to
  FROM rekeyed
  JOIN staging.stg_psdalldata__release AS release
    ON rekeyed.released_on = release.released_on
  LEFT JOIN staging.stg_usda__wasde_cycle_commodity AS cycle
    ON rekeyed.commodity_code = cycle.commodity_code
), final AS (
  SELECT
    commodity_code,
    country_code,
    market_year,
    uncertain_from,
    uncertain_to,
    'touched' AS reason
  FROM stamp
  WHERE
    uncertain_from <= uncertain_to
  UNION ALL
  SELECT
    commodity_code,
    country_code,
    market_year,
    ingest_date,
    unstamped_to,
    'unstamped'
  FROM stamp
  WHERE
    reported_month IS NULL AND ingest_date <= COALESCE(unstamped_to, ingest_date)
  UNION ALL
  SELECT
    commodity_code,
    NULL,
    NULL,
    uncertain_from,
    uncertain_to,
    'rekeyed'
  FROM rekeyed_span
  WHERE
    uncertain_from <= uncertain_to
)
SELECT
  final.commodity_code::TEXT,
  commodity.commodity_name::TEXT,
  final.country_code::TEXT,
  country.country_name::TEXT,
  final.market_year::SMALLINT,
  final.uncertain_from::DATE,
  final.uncertain_to::DATE,
  final.reason::TEXT
FROM final
LEFT JOIN serving.dim_commodity AS commodity
  ON final.commodity_code = commodity.commodity_code
LEFT JOIN serving.dim_country AS country
  ON final.country_code = country.country_code
/* One row per commodity, country or group of countries, and market year: what analysts derive from a balance sheet. Ratios, not per cent, unless the name ends in _pct. `metric_asof(day)` computes the same as of a day with the same query */
MODEL (
  name serving.fct_metric,
  kind FULL,
  grain (commodity_code, country_code, group_code, market_year),
  column_descriptions (
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    country_code = 'Two characters, NULL for a group',
    country_name = 'The country, NULL for a group',
    group_code = 'The group, see dim_country_group; NULL for a country',
    group_name = 'The group''s name, NULL for a country',
    market_year = 'USDA''s market year',
    unit_name = 'The unit of production, use_total and ending_stocks',
    production = 'Production (attribute 028)',
    use_total = 'The use that the ratios divide by. Country: Domestic Consumption (125), or Domestic Use (142), or where a sheet has neither Total Supply (086) less exports and ending stocks. Group: beginning stocks + production + imports - exports - ending stocks; the world: beginning stocks + production - ending stocks, which is WASDE''s world use',
    ending_stocks = 'Ending Stocks (176)',
    stocks_to_use = 'Ending stocks over use; a country''s use here includes its exports: ending_stocks / (use_total + exports). Groups and the world: ending_stocks / use_total',
    yield = 'Tonnes a hectare. Country: as USDA prints it (184). Group: production, for rice rough production (054), over area harvested (004). NULL where production is no mass',
    production_change_pct = 'Production against the market year before, per cent of the latter',
    five_year_average_ratio = 'Production over the mean of the five market years before; NULL unless all five are there',
    production_percentile = 'Share of the other market years since 1990, or since the first that has production, whose production is lower: 0 the lowest, 100 the highest. NULL where a market year among them is missing',
    stocks_to_use_percentile = 'The same for stocks_to_use: 0 the tightest, 100 the most ample market year since 1990',
    import_dependence = 'Imports (057) over use_total',
    self_sufficiency = 'Production over use_total',
    export_share = 'Exports (088) over production',
    countries_missing = 'How many members of the group have no balance sheet; every figure that needs them is NULL. 0 for a country'
  ),
  audits (
    one_row_per_key(
      key := (commodity_code, market_year, COALESCE(country_code, group_code)),
      required := (commodity_name, countries_missing)
    )
  )
);

WITH fact AS (
  SELECT
    version.commodity_code,
    version.country_code,
    NULL AS group_code,
    version.market_year,
    version.attribute_id,
    version.unit_id,
    version.value,
    NULL AS implied_use,
    0 AS missing,
    TRUE AS is_certain
  FROM cleaned.cln_psdalldata__fact_version AS version
  WHERE
    version.valid_to IS NULL
    AND version.attribute_id IN ('004', '020', '028', '054', '057', '086', '088', '125', '142', '176', '184')
  UNION ALL
  SELECT
    commodity_code,
    NULL,
    group_code,
    market_year,
    attribute_id,
    unit_id,
    value,
    implied_use,
    countries_missing,
    TRUE
  FROM serving.agg_group_balance
  WHERE
    attribute_id IN ('004', '020', '028', '054', '057', '086', '088', '125', '142', '176')
), sheet AS (
  SELECT
    commodity_code,
    country_code,
    group_code,
    market_year,
    MAX(CASE WHEN attribute_id = '028' THEN unit_id END) AS unit_id,
    MAX(CASE WHEN attribute_id = '028' THEN value END)::DOUBLE AS production,
    MAX(CASE WHEN attribute_id = '057' THEN value END)::DOUBLE AS imports,
    MAX(CASE WHEN attribute_id = '088' THEN value END)::DOUBLE AS exports,
    MAX(CASE WHEN attribute_id = '176' THEN value END)::DOUBLE AS ending_stocks,
    COALESCE(
      MAX(implied_use),
      MAX(CASE WHEN attribute_id = '125' THEN value END),
      MAX(CASE WHEN attribute_id = '142' THEN value END),
      MAX(CASE WHEN attribute_id = '086' THEN value END) - MAX(CASE WHEN attribute_id = '088' THEN value END) - MAX(CASE WHEN attribute_id = '176' THEN value END)
    )::DOUBLE AS use_total,
    CASE
      WHEN NOT group_code IS NULL
      THEN COALESCE(
        NULLIF(MAX(CASE WHEN attribute_id = '054' THEN value END), 0),
        MAX(CASE WHEN attribute_id = '028' THEN value END)
      )::DOUBLE / NULLIF(MAX(CASE WHEN attribute_id = '004' THEN value END), 0)::DOUBLE * CASE MAX(CASE WHEN attribute_id = '028' THEN unit_id END)
        WHEN '08'
        THEN 1
        WHEN '27'
        THEN 0.2177243376
        WHEN '02'
        THEN 0.06
      END
      ELSE MAX(CASE WHEN attribute_id = '184' THEN value END)::DOUBLE * CASE MAX(CASE WHEN attribute_id = '184' THEN unit_id END)
        WHEN '26'
        THEN 1
        WHEN '28'
        THEN 0.2177243376
        WHEN '29'
        THEN 0.001
      END
    END AS yield,
    MAX(missing) AS countries_missing,
    COALESCE(MAX(CASE WHEN attribute_id = '028' THEN missing END), 0) > 0 AS lacks_production,
    MAX(missing) > 0 AS lacks_any,
    BOOL_AND(is_certain::BOOLEAN) AS is_certain,
    market_year >= 1990 AS is_ranked
  FROM fact
  GROUP BY
    commodity_code,
    country_code,
    group_code,
    market_year
), measured AS (
  SELECT
    commodity_code,
    country_code,
    group_code,
    market_year,
    unit_id,
    production,
    use_total,
    ending_stocks,
    yield,
    countries_missing,
    lacks_production,
    lacks_any,
    is_certain,
    is_ranked,
    ending_stocks / NULLIF(use_total + CASE WHEN group_code IS NULL THEN exports ELSE 0 END, 0) AS stocks_to_use,
    imports / NULLIF(use_total, 0) AS import_dependence,
    production / NULLIF(use_total, 0) AS self_sufficiency,
    exports / NULLIF(production, 0) AS export_share
  FROM sheet
), first_year AS (
  SELECT
    commodity_code,
    country_code,
    group_code,
    MIN(market_year) FILTER(WHERE
      NOT production IS NULL) AS production_from,
    MIN(market_year) FILTER(WHERE
      NOT stocks_to_use IS NULL) AS stocks_from
  FROM measured
  WHERE
    is_ranked
  GROUP BY
    commodity_code,
    country_code,
    group_code
), final AS (
  SELECT
    measured.commodity_code,
    commodity.commodity_name,
    measured.country_code,
    country.country_name,
    measured.group_code,
    grouping.group_name,
    measured.market_year,
    unit.unit_name,
    measured.production,
    measured.use_total,
    measured.ending_stocks,
    measured.stocks_to_use,
    measured.yield,
    100 * (
      measured.production / NULLIF(MAX(measured.production) OVER year_before, 0) - 1
    ) AS production_change_pct,
    CASE
      WHEN COUNT(measured.production) OVER five_years = 5
      THEN measured.production / NULLIF(AVG(measured.production) OVER five_years, 0)
    END AS five_year_average_ratio,
    CASE
      WHEN measured.is_ranked
      AND NOT measured.production IS NULL
      AND NOT COALESCE(
        BOOL_OR(
          CAST(measured.lacks_production AND measured.market_year >= first_year.production_from AS BOOLEAN)
        ) OVER ranked,
        FALSE
      )
      THEN 100 * PERCENT_RANK() OVER (
        PARTITION BY measured.commodity_code, measured.country_code, measured.group_code, measured.is_ranked, measured.production IS NULL
        ORDER BY measured.production
      )
    END AS production_percentile,
    CASE
      WHEN measured.is_ranked
      AND NOT measured.stocks_to_use IS NULL
      AND NOT COALESCE(
        BOOL_OR(
          CAST(measured.lacks_any AND measured.market_year >= first_year.stocks_from AS BOOLEAN)
        ) OVER ranked,
        FALSE
      )
      THEN 100 * PERCENT_RANK() OVER (
        PARTITION BY measured.commodity_code, measured.country_code, measured.group_code, measured.is_ranked, measured.stocks_to_use IS NULL
        ORDER BY measured.stocks_to_use
      )
    END AS stocks_to_use_percentile,
    measured.import_dependence,
    measured.self_sufficiency,
    measured.export_share,
    measured.countries_missing,
    measured.is_certain AS certain_in_year,
    COALESCE(BOOL_AND(measured.is_certain::BOOLEAN) OVER six_years, TRUE)
    AND (
      NOT measured.is_ranked OR BOOL_AND(measured.is_certain::BOOLEAN) OVER ranked
    ) AS certain_history
  FROM measured
  LEFT JOIN first_year
    ON measured.commodity_code = first_year.commodity_code
    AND measured.country_code IS NOT DISTINCT FROM first_year.country_code
    AND measured.group_code IS NOT DISTINCT FROM first_year.group_code
  LEFT JOIN serving.dim_commodity AS commodity
    ON measured.commodity_code = commodity.commodity_code
  LEFT JOIN serving.dim_country AS country
    ON measured.country_code = country.country_code
  LEFT JOIN serving.dim_unit AS unit
    ON measured.unit_id = unit.unit_id
  LEFT JOIN (
    SELECT DISTINCT
      group_code,
      group_name
    FROM serving.dim_country_group
  ) AS grouping
    ON measured.group_code = grouping.group_code
  WINDOW year_before AS (
    PARTITION BY measured.commodity_code, measured.country_code, measured.group_code
    ORDER BY measured.market_year
    RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING
  ), five_years AS (
    PARTITION BY measured.commodity_code, measured.country_code, measured.group_code
    ORDER BY measured.market_year
    RANGE BETWEEN 5 PRECEDING AND 1 PRECEDING
  ), six_years AS (
    PARTITION BY measured.commodity_code, measured.country_code, measured.group_code
    ORDER BY measured.market_year
    RANGE BETWEEN 5 PRECEDING AND CURRENT ROW
  ), ranked AS (
    PARTITION BY measured.commodity_code, measured.country_code, measured.group_code, measured.is_ranked
  )
)
SELECT
  commodity_code::TEXT,
  commodity_name::TEXT,
  country_code::TEXT,
  country_name::TEXT,
  group_code::TEXT,
  group_name::TEXT,
  market_year::SMALLINT,
  unit_name::TEXT,
  production::DOUBLE,
  use_total::DOUBLE,
  ending_stocks::DOUBLE,
  stocks_to_use::DOUBLE,
  yield::DOUBLE,
  production_change_pct::DOUBLE,
  five_year_average_ratio::DOUBLE,
  production_percentile::DOUBLE,
  stocks_to_use_percentile::DOUBLE,
  import_dependence::DOUBLE,
  self_sufficiency::DOUBLE,
  export_share::DOUBLE,
  countries_missing::INT
FROM final
/* One row per world figure of the WASDE report of the newest release's month, beside the sum of PSD's countries: wheat, corn and rice. No row where no report of that month is landed */
MODEL (
  name serving.agg_wasde_check,
  kind VIEW,
  grain (commodity_code, market_year, attribute_id),
  column_descriptions (
    released_on = 'The newest release',
    report_released_at = 'When USDA released the report, Washington time',
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    attribute_name = 'The attribute',
    psd_value = 'The sum over PSD''s countries; for use (125) beginning stocks + production - ending stocks. NULL where PSD has none',
    wasde_value = 'The figure that WASDE prints',
    unit_name = 'The unit of both',
    agrees = 'Whether they differ by less than the last digit that WASDE prints'
  ),
  audits (
    one_row_per_key(
      key := (commodity_code, market_year, attribute_id),
      required := (wasde_value, agrees)
    )
  )
);

WITH release AS (
  SELECT
    released_on,
    release_month
  FROM serving.dim_release
  ORDER BY
    released_on DESC
  LIMIT 1
), report AS (
  SELECT
    MAX(figure.released_at) AS released_at
  FROM staging.stg_wasde__figure AS figure
  JOIN release
    ON DATE_TRUNC('MONTH', figure.released_at) = release.release_month
), printed AS (
  SELECT
    figure.released_at,
    figure.commodity_code,
    figure.commodity_name,
    figure.market_year,
    figure.attribute_id,
    figure.value,
    figure.unit_name
  FROM staging.stg_wasde__figure AS figure
  JOIN report
    ON figure.released_at = report.released_at
  WHERE
    figure.group_code = 'WORLD' AND figure.is_compared AND @covers_world()
)
SELECT
  release.released_on::DATE,
  printed.released_at::TIMESTAMP AS report_released_at,
  printed.commodity_code::TEXT,
  printed.commodity_name::TEXT,
  printed.market_year::SMALLINT,
  printed.attribute_id::TEXT,
  attribute.attribute_name::TEXT,
  CASE WHEN printed.attribute_id = '125' THEN world.implied_use ELSE world.value END::DOUBLE AS psd_value,
  printed.value::DOUBLE AS wasde_value,
  printed.unit_name::TEXT,
  COALESCE(
    ABS(
      CASE WHEN printed.attribute_id = '125' THEN world.implied_use ELSE world.value END - printed.value
    ) < 10,
    FALSE
  )::BOOLEAN AS agrees
FROM printed
CROSS JOIN release
JOIN serving.dim_commodity AS commodity
  ON printed.commodity_code = commodity.commodity_code
LEFT JOIN serving.agg_world_balance AS world
  ON printed.commodity_code = world.commodity_code
  AND printed.market_year = world.market_year
  AND printed.attribute_id = world.attribute_id
  AND printed.unit_name = world.unit_name
LEFT JOIN serving.dim_attribute AS attribute
  ON printed.attribute_id = attribute.attribute_id
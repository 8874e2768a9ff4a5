/* One row per member of a group of countries, commodity and span of market years: WORLD, WORLD_LESS_CHINA, the European Union with constant borders, and groups of WASDE. Empty in a lakehouse whose dataset does not cover the world */
MODEL (
  name serving.dim_country_group,
  kind VIEW,
  grain (group_code, commodity_code, country_code),
  column_descriptions (
    group_code = 'The group. EU27_UK sums E2 and the later members up to market year 1998, E4 from 1999, and the United Kingdom, which E4 contains up to 2015 only',
    group_name = 'Its name',
    commodity_code = 'Seven digits; NULL: every commodity without rows of its own in this group',
    country_code = 'Two characters. A member that no release shows is counted as missing, except in WORLD and WORLD_LESS_CHINA, which are the countries that USDA shows',
    country_name = 'The country',
    from_market_year = 'First market year of the membership, NULL: since ever',
    to_market_year = 'Last market year of the membership, NULL: to date'
  ),
  audits (
    one_row_per_key(
      key := (group_code, COALESCE(commodity_code, 'ALL'), country_code),
      required := group_name
    )
  )
);

WITH member AS (
  SELECT
    'WORLD' AS group_code,
    'World' AS group_name,
    NULL AS commodity_code,
    country_code,
    NULL AS from_market_year,
    NULL AS to_market_year
  FROM serving.dim_country
  UNION ALL
  SELECT
    'WORLD_LESS_CHINA',
    'World less China',
    NULL,
    country_code,
    NULL,
    NULL
  FROM serving.dim_country
  WHERE
    country_code <> 'CH'
  UNION ALL
  SELECT
    group_code,
    group_name,
    NULLIF(commodity_code, 'ALL'),
    country_code,
    from_market_year,
    to_market_year
  FROM seed.country_group
)
SELECT
  member.group_code::TEXT,
  member.group_name::TEXT,
  member.commodity_code::TEXT,
  member.country_code::TEXT,
  COALESCE(served.country_name, listed.country_name)::TEXT AS country_name,
  member.from_market_year::SMALLINT,
  member.to_market_year::SMALLINT
FROM member
LEFT JOIN serving.dim_country AS served
  ON member.country_code = served.country_code
LEFT JOIN seed.country AS listed
  ON member.country_code = listed.country_code
WHERE
  @covers_world()
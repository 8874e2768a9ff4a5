/* One row per fact that a release changed. A commodity whose market years were re-keyed is compared with the shifted sheets */
MODEL (
  name cleaned.cln_psdalldata__revision,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column (released_on, '%Y-%m-%d')
  ),
  grain (released_on, hkey),
  column_descriptions (
    released_on = 'The day USDA published the release with the change',
    hkey = 'The fact''s stable key',
    commodity_code = 'Seven digits',
    country_code = 'Two characters',
    market_year = 'USDA''s market year',
    attribute_id = 'Three digits',
    unit_id = 'Two digits',
    change_kind = 'new, revised, removed, or restated: the same value under another market year',
    previous_market_year = 'The market year of this value in the previous release; differs from market_year in a re-keyed commodity',
    previous_value = 'The value in the previous release, NULL for a new fact',
    value = 'The value in this release, NULL for a removed fact',
    is_driver = 'Whether it follows from no other change of the release: no total whose parts changed, no beginning stocks that changed like the ending stocks of the year before'
  ),
  audits (
    one_row_per_key(key := (released_on, hkey), required := (change_kind, is_driver)),
    accepted_values("column" := change_kind, is_in := ('new', 'revised', 'removed', 'restated'))
  )
);

WITH release AS (
  SELECT
    released_on,
    key,
    landed_as,
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
    country_code,
    market_year,
    attribute_id,
    unit_id,
    previous_value,
    value
  FROM staging.stg_psdalldata__commodity
  WHERE
    ingest_date BETWEEN @start_date AND @end_date AND NOT compared_with IS NULL
), rekeyed AS (
  SELECT
    released_on,
    commodity_code,
    years
  FROM cleaned.cln_psdalldata__rekeying
  WHERE
    released_on BETWEEN @start_date AND @end_date
), shown_before AS (
  SELECT
    release.released_on,
    fact.hkey,
    fact.value
  FROM staging.stg_psdalldata__fact AS fact
  JOIN release
    ON fact.released_on = release.previous_landed_as AND fact.key = release.previous_key
  JOIN rekeyed
    ON release.released_on = rekeyed.released_on
    AND fact.commodity_code = rekeyed.commodity_code
), shown AS (
  SELECT
    release.released_on,
    fact.hkey,
    fact.value
  FROM staging.stg_psdalldata__fact AS fact
  JOIN release
    ON fact.released_on = release.landed_as AND fact.key = release.key
  JOIN rekeyed
    ON release.released_on = rekeyed.released_on
    AND fact.commodity_code = rekeyed.commodity_code
), compared AS (
  SELECT
    changed.released_on,
    changed.hkey,
    changed.commodity_code,
    changed.country_code,
    changed.market_year,
    changed.attribute_id,
    changed.unit_id,
    changed.value,
    changed.value IS NULL AND NOT moved_to.value IS NULL AS moved_away,
    CASE
      WHEN changed.value IS NULL OR rekeyed.years IS NULL
      THEN changed.previous_value
      ELSE moved_from.value
    END AS previous_value,
    changed.market_year - CASE
      WHEN changed.value IS NULL OR moved_from.value IS NULL
      THEN 0
      ELSE rekeyed.years
    END AS previous_market_year
  FROM changed
  LEFT JOIN rekeyed
    USING (released_on, commodity_code)
  LEFT JOIN shown_before AS moved_from
    ON changed.released_on = moved_from.released_on
    AND changed.hkey - @hkey_shift(rekeyed.years) = moved_from.hkey
  LEFT JOIN shown AS moved_to
    ON changed.released_on = moved_to.released_on
    AND changed.hkey + @hkey_shift(rekeyed.years) = moved_to.hkey
), kind AS (
  SELECT
    released_on,
    hkey,
    commodity_code,
    country_code,
    market_year,
    attribute_id,
    unit_id,
    CASE
      WHEN moved_away OR value = previous_value
      THEN 'restated'
      WHEN value IS NULL
      THEN 'removed'
      WHEN previous_value IS NULL
      THEN 'new'
      ELSE 'revised'
    END AS change_kind,
    CASE WHEN NOT previous_value IS NULL THEN previous_market_year END AS previous_market_year,
    previous_value,
    value
  FROM compared
), follower AS (
  SELECT DISTINCT
    total.released_on,
    total.hkey
  FROM kind AS total
  JOIN @attribute_parts() AS pair
    ON total.attribute_id = pair.attribute_id
  JOIN kind AS part
    ON total.released_on = part.released_on
    AND total.commodity_code = part.commodity_code
    AND total.country_code = part.country_code
    AND total.market_year = part.market_year
    AND pair.part_id = part.attribute_id
  WHERE
    part.change_kind <> 'restated'
  UNION
  SELECT
    beginning.released_on,
    beginning.hkey
  FROM kind AS beginning
  JOIN kind AS ending
    ON beginning.released_on = ending.released_on
    AND beginning.commodity_code = ending.commodity_code
    AND beginning.country_code = ending.country_code
    AND beginning.unit_id = ending.unit_id
    AND beginning.market_year = ending.market_year + 1
    AND beginning.value - beginning.previous_value = ending.value - ending.previous_value
  WHERE
    beginning.attribute_id = '020' AND ending.attribute_id = '176'
)
SELECT
  kind.released_on::DATE,
  kind.hkey::BIGINT,
  kind.commodity_code::TEXT,
  kind.country_code::TEXT,
  kind.market_year::SMALLINT,
  kind.attribute_id::TEXT,
  kind.unit_id::TEXT,
  kind.change_kind::TEXT,
  kind.previous_market_year::SMALLINT,
  kind.previous_value::DECIMAL(18, 4),
  kind.value::DECIMAL(18, 4),
  (
    follower.hkey IS NULL AND kind.change_kind <> 'restated'
  )::BOOLEAN AS is_driver
FROM kind
LEFT JOIN follower
  ON kind.released_on = follower.released_on AND kind.hkey = follower.hkey
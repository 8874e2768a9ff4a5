/* One row per release and commodity: how many facts the release changed. The earliest release, the baseline, has none */
MODEL (
  name serving.agg_release_summary,
  kind VIEW,
  grain (released_on, commodity_code),
  column_descriptions (
    released_on = 'The day USDA published the release',
    commodity_code = 'Seven digits',
    commodity_name = 'The commodity',
    facts_new = 'Facts missing in the previous release',
    facts_revised = 'Facts whose value the release changed; a new stamp alone does not count',
    facts_removed = 'Facts missing in this release',
    facts_restated = 'Facts that carry the value of another market year, after a re-keying'
  ),
  audits (
    one_row_per_key(key := (released_on, commodity_code))
  )
);

SELECT
  release.released_on::DATE,
  commodity.commodity_code::TEXT,
  commodity.commodity_name::TEXT,
  COUNT(*) FILTER(WHERE
    revision.change_kind = 'new')::BIGINT AS facts_new,
  COUNT(*) FILTER(WHERE
    revision.change_kind = 'revised')::BIGINT AS facts_revised,
  COUNT(*) FILTER(WHERE
    revision.change_kind = 'removed')::BIGINT AS facts_removed,
  COUNT(*) FILTER(WHERE
    revision.change_kind = 'restated')::BIGINT AS facts_restated
FROM serving.dim_release AS release
CROSS JOIN serving.dim_commodity AS commodity
LEFT JOIN cleaned.cln_psdalldata__revision AS revision
  ON release.released_on = revision.released_on
  AND commodity.commodity_code = revision.commodity_code
WHERE
  NOT release.previous_released_on IS NULL
GROUP BY
  release.released_on,
  commodity.commodity_code,
  commodity.commodity_name
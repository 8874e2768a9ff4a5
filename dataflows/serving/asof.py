"""The two macros that answer *what did USDA say on day X?*, for the lakehouse and for every generation."""

from typing import Final

_ASOF: Final = """
CREATE OR REPLACE MACRO {schema}.psd_asof(day) AS TABLE
SELECT
  commodity_code, country_code, market_year, attribute_id, unit_id, unit_name, value,
  reported_month, valid_from, valid_to, last_seen_on,
  (valid_to IS NULL OR day::DATE <= last_seen_on) AS certain
FROM {schema}.fct_psd
WHERE valid_from <= day::DATE AND (valid_to IS NULL OR day::DATE < valid_to)
"""

_COVERAGE: Final = """
CREATE OR REPLACE MACRO {schema}.psd_asof_coverage(day) AS TABLE
SELECT
  fact.commodity_code,
  commodity.commodity_name,
  COUNT(*) FILTER (WHERE stands AND sure) AS certain,
  COUNT(*) FILTER (WHERE stands AND NOT sure) AS uncertain,
  COUNT(*) FILTER (WHERE known_from > day::DATE) AS unknown
FROM (
  SELECT
    commodity_code,
    MIN(valid_from) AS known_from,
    BOOL_OR(valid_from <= day::DATE AND (valid_to IS NULL OR day::DATE < valid_to)) AS stands,
    BOOL_OR(valid_from <= day::DATE AND (valid_to IS NULL OR day::DATE <= last_seen_on)) AS sure
  FROM {schema}.fct_psd
  GROUP BY commodity_code, country_code, market_year, attribute_id, unit_id
) AS fact
LEFT JOIN {schema}.dim_commodity AS commodity USING (commodity_code)
GROUP BY fact.commodity_code, commodity.commodity_name
ORDER BY fact.commodity_code
"""


def asof_macros(schema: str) -> tuple[str, str]:
    """The statements that create `psd_asof(day)` and `psd_asof_coverage(day)` in `schema`.

    `psd_asof`: the facts as they stood on that day, columns as `fct_psd` plus `certain`, which is false between
    the last release that shows a version and the first that shows its successor, where a version that nobody
    kept may have stood. `psd_asof_coverage`: per commodity, how many facts are certain, uncertain, and unknown,
    that is first known only after that day.
    """
    return _ASOF.format(schema=schema), _COVERAGE.format(schema=schema)

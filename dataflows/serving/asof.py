"""The macros that answer *what did USDA say on day X?*, for the lakehouse and for every generation.

`checked_on` is the day of the last probe that found the current file unchanged since the newest release. It vouches for
the days before it, not for itself: USDA may post later that day.
"""

from datetime import UTC
from typing import TYPE_CHECKING, Final

from dataflows.serving.asof_groups import group_macros
from dataflows.serving.units import convert_macro

if TYPE_CHECKING:
    from dataflows.serving.generation import GenerationFacts

_NEVER: Final = "0001-01-01"
"""The default of `checked_on`. Not NULL: DuckLake stores no default that has no type (DuckDB 1.5.5)."""

_SHOWN: Final = """release AS (
  SELECT *,
    day::DATE < checked_on::DATE AND released_on = (SELECT MAX(released_on) FROM {schema}.dim_release) AS checked
  FROM {schema}.dim_release WHERE released_on <= day::DATE ORDER BY released_on DESC LIMIT 1
), cycle AS (
  SELECT
    commodity_code,
    COALESCE((
      SELECT day::DATE >= shown_from
        AND (COALESCE(checked, FALSE) OR day::DATE <= released_on OR is_wasde_cycle AND day::DATE < next_release_due)
      FROM release
    ), FALSE) AS is_shown
  FROM {schema}.dim_commodity
)"""
"""Per commodity, whether a landed release shows all that stood on the day."""

_ASOF: Final = """
CREATE OR REPLACE MACRO {schema}.psd_asof(day, checked_on := '{never}') AS TABLE
WITH {shown}, span AS (
  SELECT commodity_code, country_code, market_year, reason, uncertain_from
  FROM {schema}.fct_uncertain_span
  WHERE uncertain_from <= day::DATE AND (uncertain_to IS NULL OR day::DATE <= uncertain_to)
), sheet AS (
  SELECT commodity_code, country_code, market_year,
    BOOL_OR(reason = 'touched') AS is_touched, BOOL_OR(reason = 'unstamped') AS is_unstamped
  FROM span WHERE country_code IS NOT NULL GROUP BY ALL
), rekeyed AS (
  SELECT commodity_code, MAX(uncertain_from) AS uncertain_from FROM span WHERE country_code IS NULL GROUP BY ALL
), stood AS (
  SELECT
    fact.*,
    (
      NOT COALESCE(is_touched, FALSE)
      AND NOT COALESCE(valid_from < rekeyed.uncertain_from, FALSE)
      AND (is_shown OR day::DATE <= last_seen_on AND NOT COALESCE(is_unstamped, FALSE))
    ) AS certain
  FROM {schema}.fct_psd AS fact
  JOIN cycle ON fact.commodity_code = cycle.commodity_code
  LEFT JOIN rekeyed ON fact.commodity_code = rekeyed.commodity_code
  LEFT JOIN sheet ON fact.commodity_code = sheet.commodity_code
    AND fact.country_code = sheet.country_code AND fact.market_year = sheet.market_year
  WHERE valid_from <= day::DATE AND (valid_to IS NULL OR day::DATE < valid_to)
){answer}{row_guard}
"""

_FROM_PSD: Final = """
SELECT *, 'psd' AS source FROM stood"""
_FROM_PSD_AND_WASDE: Final = """, printed AS (
  SELECT commodity_code, country_code, market_year, attribute_id, unit_name,
    ARG_MAX(value, released_at) AS value, MAX(released_at)::DATE AS printed_on
  FROM {schema}.fct_wasde
  JOIN cycle USING (commodity_code)
  WHERE NOT is_shown AND is_compared AND country_code IS NOT NULL
    AND released_at::DATE > (SELECT released_on FROM release) AND released_at::DATE <= day::DATE
  GROUP BY ALL
)
SELECT stood.* REPLACE (COALESCE(printed.value, stood.value) AS value, COALESCE(printed_on, valid_from) AS valid_from),
  CASE WHEN printed.value IS NULL THEN 'psd' ELSE 'wasde' END AS source
FROM stood
LEFT JOIN printed ON NOT certain AND ABS(printed.value - stood.value) > 5 AND printed_on >= stood.valid_from
  AND stood.commodity_code = printed.commodity_code AND stood.country_code = printed.country_code
  AND stood.market_year = printed.market_year AND stood.attribute_id = printed.attribute_id
  AND stood.unit_name = printed.unit_name
UNION ALL BY NAME
SELECT fact.*, printed.value, printed_on AS valid_from, printed_on AS last_seen_on, FALSE AS certain, 'wasde' AS source
FROM (
  SELECT commodity_code, country_code, market_year, attribute_id, unit_name,
    ANY_VALUE(commodity_name) AS commodity_name, ANY_VALUE(country_name) AS country_name,
    ANY_VALUE(attribute_name) AS attribute_name, ANY_VALUE(unit_id) AS unit_id,
    ANY_VALUE(market_year_now) AS market_year_now, MIN(valid_from) AS valid_to
  FROM {schema}.fct_psd SEMI JOIN printed USING (commodity_code, country_code, market_year, attribute_id, unit_name)
  GROUP BY ALL
) AS fact
JOIN printed USING (commodity_code, country_code, market_year, attribute_id, unit_name)
WHERE fact.valid_to > day::DATE"""
"""A newer report's figure in the place of a value that is not certain, unless it is that value rounded to 10 as WASDE
prints it; and the figures of facts that only a later release shows."""

_KNOWN: Final = """
CREATE OR REPLACE MACRO {schema}.psd_known(day, checked_on := '{never}') AS TABLE
SELECT * EXCLUDE (certain, source) FROM {schema}.psd_asof(day, checked_on := checked_on) WHERE certain{known_guard}
"""

_ALL: Final = """
CREATE OR REPLACE MACRO {schema}.psd_asof_all(day, checked_on := '{never}') AS TABLE
WITH {shown}
SELECT
  fact.* EXCLUDE (known_from), stood.value, stood.valid_from, stood.valid_to,
  CASE
    WHEN stood.certain THEN 'certain'
    WHEN NOT stood.certain THEN 'uncertain'
    WHEN fact.known_from > day::DATE AND NOT cycle.is_shown THEN 'unknown'
    ELSE 'absent'
  END AS standing,
  stood.source
FROM (
  SELECT commodity_code, ANY_VALUE(commodity_name) AS commodity_name, country_code,
    ANY_VALUE(country_name) AS country_name, market_year, attribute_id, ANY_VALUE(attribute_name) AS attribute_name,
    unit_id, ANY_VALUE(unit_name) AS unit_name, MIN(valid_from) AS known_from
  FROM {schema}.fct_psd GROUP BY commodity_code, country_code, market_year, attribute_id, unit_id
) AS fact
JOIN cycle ON fact.commodity_code = cycle.commodity_code
LEFT JOIN {schema}.psd_asof(day, checked_on := checked_on) AS stood
  ON fact.commodity_code = stood.commodity_code AND fact.country_code = stood.country_code
  AND fact.market_year = stood.market_year AND fact.attribute_id = stood.attribute_id AND fact.unit_id = stood.unit_id
WHERE {check}{sheet_guard}
"""

_COVERAGE: Final = """
CREATE OR REPLACE MACRO {schema}.psd_asof_coverage(day, checked_on := '{never}') AS TABLE
SELECT
  commodity_code,
  ANY_VALUE(commodity_name) AS commodity_name,
  COUNT(*) FILTER (WHERE standing = 'certain') AS certain,
  COUNT(*) FILTER (WHERE standing = 'uncertain') AS uncertain,
  COUNT(*) FILTER (WHERE standing = 'unknown') AS unknown,
  COUNT(*) FILTER (WHERE standing = 'absent') AS absent
FROM (SELECT * FROM {schema}.psd_asof_all(day, checked_on := checked_on) WHERE TRUE{sheet_guard})
GROUP BY commodity_code
ORDER BY commodity_code
"""

_CHECK: Final = """(
    SELECT CASE WHEN COUNT(*) = 1 THEN TRUE
      ELSE error('this macro is of generation {number}, and the database in use is another one: USE its database first')
    END
    FROM {schema}.generation WHERE number = {number} AND created_at = TIMESTAMP '{created_at}'
  )"""

_ROW_GUARD: Final = """
UNION ALL BY NAME
SELECT *, random() < 2 AS certain, CASE WHEN random() < 2 THEN 'psd' END AS source
FROM (SELECT * FROM {schema}.fct_psd WHERE NOT {check} LIMIT 1)"""
_KNOWN_GUARD: Final = """
UNION ALL BY NAME
SELECT * FROM (SELECT * FROM {schema}.fct_psd WHERE NOT {check} LIMIT 1)"""

_SHEET_GUARD: Final = """
UNION ALL BY NAME
SELECT commodity_code, commodity_name, country_code, country_name, market_year, attribute_id, attribute_name,
  unit_id, unit_name, CASE WHEN random() < 2 THEN 'certain' END AS standing,
  CASE WHEN random() < 2 THEN 'psd' END AS source
FROM (SELECT * FROM {schema}.fct_psd WHERE NOT {check} LIMIT 1)"""
"""Branches that never give a row, but are always computed: no filter is pushed below its LIMIT or folded away."""


def asof_macros(
    schema: str, generation: "GenerationFacts | None" = None, *, with_wasde: bool = False
) -> tuple[str, ...]:
    """The statements that create the as-of macros in `schema`, in the order in which they must run.

    `psd_asof(day)`: the facts as they stood on that day, columns as `fct_psd` plus `certain`, which is true only when
    the landed releases leave no room for another value on that day, and `source`: `psd`, or `wasde` where `with_wasde`
    and a WASDE report that came after the newest landed release of that day prints another value than the uncertain
    one, or prints a fact that only a later release shows. `psd_known(day)`: the certain ones only.
    `psd_asof_all(day)`: every fact with its `standing` (certain, uncertain, unknown, absent), and NULL where it has no
    value. `psd_asof_coverage(day)`: per commodity, how many facts have each standing. `group_asof(group, day)`,
    `metric_asof(day)` and `estimate_path(commodity, country or group, market year, attribute)`: see asof_groups.py;
    `convert(value, unit, commodity_code, to_unit)`: see units.py.

    DuckDB binds a macro's tables and macros in the database that is in USE, not in the macro's own. So in a file that
    readers may attach beside another, the macros compare `serving.generation` with the one they are of, and raise
    instead of answering from the other file.
    """
    check, guards = "TRUE", {"row_guard": "", "known_guard": "", "sheet_guard": ""}
    if generation:
        created_at = generation.created_at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
        check = _CHECK.format(schema=schema, number=generation.number, created_at=created_at)
        guards = {
            "row_guard": _ROW_GUARD.format(schema=schema, check=check),
            "known_guard": _KNOWN_GUARD.format(schema=schema, check=check),
            "sheet_guard": _SHEET_GUARD.format(schema=schema, check=check),
        }
    texts = (_ASOF, _KNOWN, _ALL, _COVERAGE)
    answer = (_FROM_PSD_AND_WASDE if with_wasde else _FROM_PSD).format(schema=schema)
    names = {
        "schema": schema,
        "answer": answer,
        "check": check,
        "never": _NEVER,
        "shown": _SHOWN.format(schema=schema),
        **guards,
    }
    facts = (text.format(**names) for text in texts)
    return (*facts, *group_macros(schema, check, _NEVER), convert_macro(schema))

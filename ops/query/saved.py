"""The saved queries for operators and analysts, in the console and as `materia query --saved NAME`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from ops.config.settings import Settings
from ops.pipelines.current_file import checked_on
from ops.pipelines.release_changes import revisions_sql

if TYPE_CHECKING:
    from dataflows.serving import ServingReader


@dataclass(frozen=True)
class SavedQuery:
    """A SQL query with a short name for the command line, a title and a description."""

    name: str
    title: str
    explains: str
    sql: str
    """Contains `{checked}` where the as-of macros take `checked_on`."""

    def text(self, checked_on: date | None) -> str:
        """Return the SQL; `checked_on` is the last day on which the served data matched USDA's current file."""
        argument = f", checked_on := DATE '{checked_on}'" if checked_on else ""
        return self.sql.replace("{checked}", argument).strip()

    def current_text(self, settings: Settings, reader: "Callable[[], ServingReader]") -> str:
        """Return the SQL with the last check that found what `reader` serves; only as-of queries call `reader`."""
        return self.text(checked_on(settings, reader()) if "{checked}" in self.sql else None)


SAVED = (
    SavedQuery(
        "release-summary",
        "What did the newest release change?",
        "Per commodity: facts that are new, revised, removed and restated.",
        """
SELECT commodity_name, facts_new, facts_revised, facts_removed, facts_restated
FROM serving.agg_release_summary
WHERE released_on = (SELECT max(released_on) FROM serving.agg_release_summary)
ORDER BY facts_new + facts_revised + facts_removed + facts_restated DESC, commodity_name
""",
    ),
    SavedQuery(
        "largest-revisions",
        "The largest revisions of the newest release",
        "By the change's share of the world's production, as on the Releases screen.",
        revisions_sql(None, "weight"),
    ),
    SavedQuery(
        "balance-sheet-as-of",
        "A balance sheet as it stood on a day",
        "Change the day, commodity, country and market year. `certain` is false where the landed releases"
        " leave room for another value.",
        """
SELECT attribute_name, value, unit_name, valid_from, certain
FROM serving.psd_asof(DATE '2021-12-31'{checked})
WHERE commodity_name = 'Wheat' AND country_name = 'United States' AND market_year = 2020
ORDER BY attribute_id
""",
    ),
    SavedQuery(
        "coverage",
        "How much is known about a day?",
        "Per commodity: facts whose value on that day is certain, uncertain and unknown.",
        """
SELECT *, round(100.0 * certain / (certain + uncertain + unknown), 1) AS certain_pct
FROM serving.psd_asof_coverage(DATE '2021-12-31'{checked})
ORDER BY certain_pct
""",
    ),
    SavedQuery(
        "world-balances",
        "World balances over the market years",
        "Production, use and ending stocks per commodity, summed over countries; chart it with `c`.",
        """
SELECT commodity_name, market_year,
  sum(value) FILTER (attribute_id = '028') AS production,
  sum(value) FILTER (attribute_id = '125') AS domestic_consumption,
  sum(value) FILTER (attribute_id = '176') AS ending_stocks, any_value(unit_name) AS unit_name
FROM serving.agg_world_balance
WHERE attribute_id IN ('028', '125', '176')
GROUP BY commodity_name, market_year
ORDER BY commodity_name, market_year
""",
    ),
    SavedQuery(
        "stocks-to-use",
        "Stocks to use, tightest first",
        "The world's ending stocks over use in the newest market year of each commodity, and where it ranks since 1990"
        " (0: the tightest year).",
        """
SELECT commodity_name, market_year, unit_name, ending_stocks, use_total, round(stocks_to_use, 3) AS stocks_to_use,
  round(stocks_to_use_percentile) AS percentile_since_1990
FROM serving.fct_metric
WHERE group_code = 'WORLD' AND stocks_to_use IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY commodity_code ORDER BY market_year DESC) = 1
ORDER BY stocks_to_use
""",
    ),
    SavedQuery(
        "exporters-metrics",
        "Main exporters: yield, crop, self-sufficiency",
        "Metrics of the ten largest exporters of wheat in its newest market year. Change the commodity.",
        """
SELECT country_name, iso3, market_year, production, round(export_share, 3) AS export_share,
  round(stocks_to_use, 3) AS stocks_to_use, round(yield, 2) AS tonnes_per_hectare,
  round(production_change_pct, 1) AS change_pct, round(five_year_average_ratio, 3) AS against_five_years,
  round(self_sufficiency, 2) AS self_sufficiency
FROM serving.fct_metric
JOIN serving.dim_country USING (country_code, country_name)
WHERE commodity_name = 'Wheat' AND market_year = (
  SELECT max(market_year) FROM serving.fct_metric WHERE commodity_name = 'Wheat'
)
ORDER BY export_share * production DESC
LIMIT 10
""",
    ),
    SavedQuery(
        "groups-as-of",
        "The world and other groups as of a day",
        "Sums with what they lack. Change the day; a group's code instead of NULL gives that group only.",
        """
SELECT group_name, market_year, attribute_name, value, partial_value, unit_name, countries, countries_missing,
  implied_use, certain
FROM serving.group_asof(NULL, DATE '2021-12-31'{checked})
WHERE commodity_name = 'Wheat' AND market_year = 2021 AND attribute_name IN ('Production', 'Exports', 'Ending Stocks')
ORDER BY group_code, attribute_id
""",
    ),
    SavedQuery(
        "estimate-path",
        "An estimate, release by release",
        "Change commodity, country or group, market year and attribute; names or codes. In million bushels, too.",
        """
SELECT released_on, months_to_market_year_end, value, change, round(change_pct, 2) AS change_pct, unit_name,
  round(serving.convert(value, unit_name, commodity_code, 'million bushels'), 1) AS million_bushels, certain
FROM serving.estimate_path('Wheat', 'United States', 2025, 'Production')
""",
    ),
    SavedQuery(
        "most-revised",
        "Which estimates are revised most?",
        "Per country and commodity: how often, and by how much at the median, a release revised its production.",
        """
SELECT country_name, commodity_name, count(*) AS revisions,
  round(median(abs(change / nullif(previous_value, 0))) * 100, 2) AS median_change_pct
FROM serving.fct_psd_revision
WHERE change_kind = 'revised' AND attribute_id = '028'
GROUP BY country_name, commodity_name
ORDER BY revisions DESC, median_change_pct DESC
""",
    ),
    SavedQuery(
        "re-keyed",
        "Which sheets were re-keyed?",
        "Facts that a release carried under another market year: restated, not revised.",
        """
SELECT released_on, commodity_name, previous_market_year, market_year, count(*) AS facts
FROM serving.fct_psd_revision
WHERE change_kind = 'restated'
GROUP BY ALL
ORDER BY released_on DESC, facts DESC
""",
    ),
    SavedQuery(
        "releases",
        "Which releases are served?",
        "The releases that are served: when, how many facts, and which release each was compared with.",
        """
SELECT released_on, release_month, row_count, row_count - lag(row_count) OVER (ORDER BY released_on) AS more_facts,
  previous_released_on, next_release_due, etag
FROM serving.dim_release
ORDER BY released_on DESC
""",
    ),
    SavedQuery(
        "imbalances",
        "Which sheets do not balance?",
        "Current sheets whose supply and distribution differ by more than a thousandth: check the source.",
        """
SELECT commodity_name, country_name, market_year, total_supply, total_distribution,
  total_supply - total_distribution AS gap
FROM serving.obt_commodity_metrics
WHERE abs(total_supply - total_distribution) > greatest(1, 0.001 * abs(total_supply))
ORDER BY abs(gap) DESC
""",
    ),
    SavedQuery(
        "generation",
        "Which generation is served?",
        "The current generation: its number, age, code, and the rows of its tables.",
        """
SELECT number, created_at, code_version, duckdb_version, newest_released_on, len(snapshot_etags) AS snapshots,
  unnest(map_entries(row_counts), recursive := true)
FROM serving.generation
""",
    ),
)
"""Every saved query; the tests run each of them."""

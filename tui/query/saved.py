"""The saved queries for operators and analysts."""

from dataclasses import dataclass
from datetime import date

from ops.pipelines.release_changes import revisions_sql


@dataclass(frozen=True)
class SavedQuery:
    """A named SQL query with a description."""

    name: str
    explains: str
    sql: str
    """Contains `{checked}` where the as-of macros take `checked_on`."""

    def text(self, checked_on: date | None) -> str:
        """Return the SQL; `checked_on` is the last day on which the served data matched USDA's current file."""
        argument = f", checked_on := DATE '{checked_on}'" if checked_on else ""
        return self.sql.replace("{checked}", argument).strip()


SAVED = (
    SavedQuery(
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
        "The largest revisions of the newest release",
        "By the change's share of the world's production, as on the Releases screen.",
        revisions_sql(None, "weight"),
    ),
    SavedQuery(
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
        "How much is known about a day?",
        "Per commodity: facts whose value on that day is certain, uncertain and unknown.",
        """
SELECT *, round(100.0 * certain / (certain + uncertain + unknown), 1) AS certain_pct
FROM serving.psd_asof_coverage(DATE '2021-12-31'{checked})
ORDER BY certain_pct
""",
    ),
    SavedQuery(
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
        "Stocks to use, tightest first",
        "World ending stocks over domestic consumption in the newest market year of each commodity.",
        """
SELECT commodity_name, market_year, ending_stocks, domestic_consumption,
  round(ending_stocks / nullif(domestic_consumption, 0), 3) AS stocks_to_use
FROM (
  SELECT commodity_name, market_year,
    sum(value) FILTER (attribute_id = '176') AS ending_stocks,
    sum(value) FILTER (attribute_id = '125') AS domestic_consumption
  FROM serving.agg_world_balance GROUP BY commodity_name, market_year
)
WHERE domestic_consumption > 0
QUALIFY row_number() OVER (PARTITION BY commodity_name ORDER BY market_year DESC) = 1
ORDER BY stocks_to_use
""",
    ),
    SavedQuery(
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

"""Small served generations of hand-made facts: two commodities, two countries, three releases."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

import duckdb

from dataflows.landing.snapshot import Snapshot
from dataflows.serving import Generation, ServingReader
from dataflows.serving.asof import asof_macros
from dataflows.serving.generation import GenerationFacts
from dataflows.serving.generation_table import write_generation_table
from dataflows.serving.store import ServingStore
from ops.config.settings import Settings
from tui.shell.context import ConsoleContext

NOW = datetime(2025, 8, 12, 18, 0, tzinfo=UTC)
_TABLES = """
CREATE TABLE serving.dim_commodity AS FROM (VALUES ('0410000', 'Wheat', true, 27.2155422, 6::SMALLINT),
  ('0711100', 'Coffee, Green', false, NULL, NULL))
  AS t(commodity_code, commodity_name, is_wasde_cycle, bushel_kg, market_year_begins);
CREATE TABLE serving.dim_country AS FROM (VALUES ('BR', 'Brazil', 'BRA'), ('US', 'United States', 'USA'))
  AS t(country_code, country_name, iso3);
CREATE TABLE serving.dim_country_group AS
  SELECT 'WORLD' AS group_code, 'World' AS group_name, NULL::TEXT AS commodity_code, country_code, country_name,
  NULL::SMALLINT AS from_market_year, NULL::SMALLINT AS to_market_year FROM serving.dim_country;
CREATE TABLE serving.dim_unit AS FROM (VALUES ('08', '(1000 MT)', 1000, 't'), ('26', '(MT/HA)', 1, 't/ha'),
  ('02', '(1000 60 KG BAGS)', 60, 't')) AS t(unit_id, unit_name, factor_to_base, base_unit);
CREATE TABLE serving.dim_attribute AS FROM (VALUES ('028', 'Production'), ('125', 'Domestic Consumption'),
  ('176', 'Ending Stocks'), ('184', 'Yield')) AS t(attribute_id, attribute_name);
CREATE TABLE serving.dim_release AS SELECT d::DATE AS released_on, date_trunc('month', d::DATE)::DATE AS release_month,
  'psd_alldata' AS dataset, k AS snapshot_key, k AS etag, 10::BIGINT AS row_count, d::DATE AS shown_from,
  n::DATE AS next_release_due, p::DATE AS previous_released_on, NULL::TEXT AS previous_snapshot_key
  FROM (VALUES ('2025-06-12', 'a', NULL, '2025-07-11'), ('2025-07-11', 'b', '2025-06-12', '2025-08-12'),
    ('2025-08-12', 'c', '2025-07-11', '2025-09-12')) AS t(d, k, p, n);
CREATE TABLE serving.fct_uncertain_span (commodity_code TEXT, country_code TEXT, market_year SMALLINT,
  uncertain_from DATE, uncertain_to DATE, reason TEXT);
INSERT INTO serving.fct_uncertain_span VALUES ('0410000', 'US', 2025, '2025-07-20', '2025-07-25', 'touched');
CREATE TABLE serving.fct_psd AS SELECT c AS commodity_code, commodity_name, o AS country_code, country_name,
  y::SMALLINT AS market_year, a AS attribute_id, attribute_name, u AS unit_id, n AS unit_name,
  v::DOUBLE AS value, m::DATE AS reported_month, f::DATE AS valid_from,
  t::DATE AS valid_to, l::DATE AS last_seen_on, y::SMALLINT AS market_year_now
  FROM (VALUES
    ('0410000', 'US', 2024, '028', '08', '(1000 MT)', 53650, '2025-05-01', '2025-05-31', NULL, '2025-08-12'),
    ('0410000', 'US', 2025, '028', '08', '(1000 MT)', 52280, '2025-06-01', '2025-06-12', '2025-07-11', '2025-06-12'),
    ('0410000', 'US', 2025, '028', '08', '(1000 MT)', 52510, '2025-07-01', '2025-07-11', '2025-08-12', '2025-07-11'),
    ('0410000', 'US', 2025, '028', '08', '(1000 MT)', 52450, '2025-08-01', '2025-08-12', NULL, '2025-08-12'),
    ('0410000', 'US', 2025, '125', '08', '(1000 MT)', 31271, '2025-06-01', '2025-06-12', NULL, '2025-08-12'),
    ('0410000', 'US', 2025, '176', '08', '(1000 MT)', 24440, '2025-06-01', '2025-06-12', '2025-07-11', '2025-06-12'),
    ('0410000', 'US', 2025, '176', '08', '(1000 MT)', 24230, '2025-07-01', '2025-07-11', NULL, '2025-08-12'),
    ('0410000', 'US', 2025, '184', '26', '(MT/HA)', 3.46, '2025-08-01', '2025-07-31', NULL, '2025-08-12'),
    ('0711100', 'BR', 2025, '028', '02', '(1000 60 KG BAGS)', 65000, NULL, '2025-06-12', NULL, '2025-08-12'),
    ('0711100', 'BR', 2024, '028', '02', '(1000 60 KG BAGS)', 66400, NULL, '2025-08-12', NULL, '2025-08-12')
  ) AS t(c, o, y, a, u, n, v, m, f, t, l)
  JOIN serving.dim_commodity ON commodity_code = c JOIN serving.dim_country ON country_code = o
  JOIN serving.dim_attribute ON attribute_id = a;
CREATE TABLE serving.fct_psd_revision AS SELECT d::DATE AS released_on, c AS commodity_code, commodity_name,
  o AS country_code, country_name, y::SMALLINT AS market_year, a AS attribute_id, attribute_name, u AS unit_id,
  n AS unit_name,
  k AS change_kind,
  q::SMALLINT AS previous_market_year, p::DOUBLE AS previous_value, v::DOUBLE AS value, (v - p)::DOUBLE AS change,
  100 * (v - p) / nullif(p, 0) AS change_pct, NULL::DOUBLE AS change_z, a = '028' AND k <> 'restated' AS is_driver
  FROM (VALUES
    ('2025-07-11', '0410000', 'US', 2025, '028', '08', '(1000 MT)', 'revised', 2025, 52280, 52510),
    ('2025-07-11', '0410000', 'US', 2025, '176', '08', '(1000 MT)', 'revised', 2025, 24440, 24230),
    ('2025-08-12', '0410000', 'US', 2025, '028', '08', '(1000 MT)', 'revised', 2025, 52510, 52450),
    ('2025-08-12', '0410000', 'US', 2025, '184', '26', '(MT/HA)', 'new', NULL, NULL, 3.46),
    ('2025-08-12', '0711100', 'BR', 2024, '028', '02', '(1000 60 KG BAGS)', 'restated', 2023, 66400, 66400)
  ) AS t(d, c, o, y, a, u, n, k, q, p, v)
  JOIN serving.dim_commodity ON commodity_code = c JOIN serving.dim_country ON country_code = o
  JOIN serving.dim_attribute ON attribute_id = a;
CREATE TABLE serving.agg_release_summary AS SELECT released_on, c.commodity_code, c.commodity_name,
  count(*) FILTER (change_kind = 'new') AS facts_new, count(*) FILTER (change_kind = 'revised') AS facts_revised,
  count(*) FILTER (change_kind = 'removed') AS facts_removed,
  count(*) FILTER (change_kind = 'restated') AS facts_restated
  FROM serving.dim_release CROSS JOIN serving.dim_commodity AS c
  LEFT JOIN serving.fct_psd_revision AS r USING (released_on, commodity_code)
  WHERE previous_released_on IS NOT NULL GROUP BY ALL;
CREATE TABLE serving.agg_world_balance AS SELECT commodity_code, commodity_name, market_year, attribute_id,
  attribute_name, unit_name, sum(value) AS value
  FROM serving.fct_psd
  WHERE valid_to IS NULL AND attribute_id <> '184' GROUP BY ALL;
CREATE TABLE serving.obt_commodity_metrics AS SELECT commodity_code, commodity_name, country_code, country_name,
  market_year, DATE '2025-08-12' AS released_on, max(value) FILTER (attribute_id = '028') AS production,
  100.0 AS total_supply, 100.0 AS total_distribution
  FROM serving.fct_psd
  WHERE valid_to IS NULL GROUP BY ALL;
"""


def serve(data_dir: Path, *, without: Collection[str] = ()) -> Generation:
    """Publish the next generation of these facts; `serving.marker` holds its number in each of 1,000 rows.

    `without` names tables that it lacks, as a generation of other code may.
    """
    store = ServingStore(data_dir / "serving.duckdb")
    number = store.next_number()
    facts = GenerationFacts(
        number=number,
        created_at=datetime(2025, 8, 12, 17, 30, tzinfo=UTC),
        code_version="abc1234",
        duckdb_version=duckdb.__version__,
        models_digest="d1ge57",
        snapshots=("a", "b", "c"),
        newest_released_on=date(2025, 8, 12),
        row_counts={"fct_psd": 10},
        forced_reason=None,
    )
    con = duckdb.connect(":memory:")
    try:
        con.execute(f"ATTACH '{store.building_path(number)}' AS built")
        con.execute("USE built")
        con.execute("CREATE SCHEMA serving")
        con.execute(_TABLES)
        con.execute(f"CREATE TABLE serving.marker AS SELECT {number} AS generation FROM range(1000)")
        write_generation_table(con, facts)
        for statement in asof_macros("serving", facts):
            con.execute(statement)
        con.execute("CREATE TABLE serving.fct_metric AS FROM serving.metric_asof(DATE '2025-08-12')")
        for table in without:
            con.execute(f"DROP TABLE IF EXISTS serving.{table}")
        con.execute("CHECKPOINT built")
    finally:
        con.close()
    return store.publish(store.building_path(number), facts)


@dataclass(frozen=True)
class Served:
    """A data directory with something served, and a console's surroundings in it."""

    data_dir: Path
    context: ConsoleContext
    publish: Callable[[], Generation]


def served_console(data_dir: Path, *, read_only: bool = False) -> Served:
    """A context on `data_dir` whose clock stands still; serves nothing by itself."""
    settings = Settings.from_environ({"MATERIA_DATA_DIR": str(data_dir)})

    @cache
    def reader() -> ServingReader:
        return ServingReader(settings.serving_path)

    context = ConsoleContext(settings, read_only, reader, clock=lambda: NOW)
    return Served(data_dir, context, lambda: serve(data_dir))


def snapshot_named(key: str, dataset: str) -> Snapshot:
    """A landed marker of the served generation, whose snapshots are a, b and c."""
    month = 5 + "abc".index(key) + 1
    return Snapshot(
        dataset=dataset,
        url="http://archive.invalid/psd.zip",
        etag=None,
        last_modified=None,
        release_year=2025,
        release_month=month,
        released_on=date(2025, month, 12),
        size_bytes=1,
        sha256="0" * 64,
        member="psd.csv",
        row_count=1,
        landed_at=datetime(2025, 8, 12, tzinfo=UTC),
        key=key,
    )

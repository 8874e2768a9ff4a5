"""A lakehouse and a generation that were built when a server's dates ordered the releases."""

import json
from datetime import date
from pathlib import Path

import pytest

from dataflows.errors import GateError
from dataflows.landing.upgrade import upgrade
from dataflows.serving.gate import is_current
from dataflows.serving.generation import sidecar_of
from ops.demo.generator import GeneratedRelease
from tests.support.old_landing import age
from tests.support.workshop import Workshop
from tests.transform.conftest import Copied

Releases = tuple[GeneratedRelease, ...]

MOVED = date(2026, 5, 1)


def age_sidecar(workshop: Workshop) -> None:
    """Give the served generation the sidecar that the code of then wrote."""
    served = workshop.serving.served()
    path = sidecar_of(workshop.serving.path(served.number))
    record = json.loads(path.read_text())
    del record["newest_release_month"], record["releases_digest"]
    record["models_digest"] = "0" * 16
    path.write_text(json.dumps(record))


def in_a_servers_order(workshop: Workshop, releases: Releases, moved: range) -> Workshop:
    """All releases landed and served as the code of then did it, those of these numbers as if they were of one day."""
    for number, release in enumerate(releases):
        landed = workshop.land(release)
        age(workshop.landing, landed, f"etag{number}", MOVED if number in moved else landed.released_on)
    workshop.export()
    age_sidecar(workshop)
    days = [day for (day,) in workshop.query("SELECT released_on FROM serving.dim_release ORDER BY 1")]
    # Several releases of one day are moved apart.
    assert days[-1] >= MOVED and [str(day) for day in days] != [str(each.published_at.date()) for each in releases]
    assert sum(each.is_redated for each in upgrade(workshop.landing)) == len(moved)
    return workshop


@pytest.fixture(scope="module")
def all_moved(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    workshop = Workshop(tmp_path_factory.mktemp("moved") / "data")
    return in_a_servers_order(workshop, releases, range(len(releases)))


def test_a_history_in_a_servers_order_is_rebuilt_in_the_right_one(
    served: Workshop, releases: Releases, tmp_path: Path
) -> None:
    assert_rebuilt(in_a_servers_order(Workshop(tmp_path / "data"), releases, range(1)), served, releases)


def test_a_history_that_was_all_of_one_day_is_rebuilt_in_the_right_order(
    served: Workshop, all_moved: Workshop, copied: Copied, releases: Releases
) -> None:
    assert_rebuilt(copied(all_moved), served, releases)


def assert_rebuilt(wrong: Workshop, right: Workshop, releases: Releases) -> None:
    """The next export gives the tables of the right order."""
    assert not is_current(wrong.serving, wrong.landing.snapshots(), wrong.dataset)
    wrong.export()

    assert wrong.serving.served().newest_release_month == str(releases[-1].month)
    for table, columns in TABLES.items():
        query = f"SELECT {columns} FROM serving.{table} ORDER BY ALL"
        assert wrong.query(query) == right.query(query), table


TABLES = {
    "dim_release": "released_on, release_month, row_count",
    "fct_psd": "*",
    "fct_psd_revision": "*",
    "agg_release_summary": "*",
    "obt_commodity_metrics": "*",
    "agg_world_balance": "*",
}
"""What does not name snapshots: their old keys stay."""


def test_the_gate_still_refuses_lost_releases_after_an_upgrade(all_moved: Workshop, copied: Copied) -> None:
    workshop = copied(all_moved)
    workshop.remove(workshop.landing.snapshots()[-1])
    with pytest.raises(GateError, match="its newest release is"):
        workshop.export()

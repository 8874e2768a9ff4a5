"""A lakehouse and a generation that were built when a server's dates ordered the releases."""

import json
from datetime import date

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


def in_a_servers_order(workshop: Workshop, releases: Releases, redated: range) -> Workshop:
    """All releases landed and served as the code of then did it, those of these numbers as if they were of one day."""
    for number, release in enumerate(releases):
        landed = workshop.land(release)
        age(workshop.landing, landed, f"etag{number}", MOVED if number in redated else landed.released_on)
    workshop.export()
    age_sidecar(workshop)
    days = [day for (day,) in workshop.query("SELECT released_on FROM serving.dim_release ORDER BY 1")]
    # Several releases of one day are moved apart.
    assert days[-1] >= MOVED and [str(day) for day in days] != [str(each.published_at.date()) for each in releases]
    assert sum(each.is_redated for each in upgrade(workshop.landing)) == len(redated)
    return workshop


@pytest.fixture(scope="module")
def moved(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The two oldest releases, of one day, count as the newest."""
    return in_a_servers_order(Workshop(tmp_path_factory.mktemp("moved") / "data"), releases, range(2))


def test_a_history_in_a_servers_order_is_rebuilt_in_the_right_one(
    served: Workshop, moved: Workshop, copied: Copied, releases: Releases
) -> None:
    assert_rebuilt(copied(moved), served, releases)


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


def test_the_gate_still_refuses_lost_releases_after_an_upgrade(moved: Workshop, copied: Copied) -> None:
    workshop = copied(moved)
    workshop.remove(workshop.landing.snapshots()[-1])
    with pytest.raises(GateError, match="its newest release is"):
        workshop.export()

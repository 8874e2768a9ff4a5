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

MOVED = date(2026, 5, 1)


def age_sidecar(workshop: Workshop) -> None:
    """Give the served generation the sidecar that the code of then wrote."""
    served = workshop.serving.served()
    path = sidecar_of(workshop.serving.path(served.number))
    record = json.loads(path.read_text())
    del record["newest_release_month"], record["releases_digest"]
    record["models_digest"] = "0" * 16
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("moved", ["the oldest", "all"])
def test_a_history_in_a_servers_order_is_rebuilt_in_the_right_one(
    served: Workshop, copied: Copied, releases: tuple[GeneratedRelease, ...], tmp_path, moved: str
) -> None:
    right = served
    wrong = Workshop(tmp_path / "wrong")
    for number, release in enumerate(releases):
        landed = wrong.land(release)
        is_moved = moved == "all" or number == 0
        age(wrong.landing, landed, f"etag{number}", MOVED if is_moved else landed.released_on)
    wrong.export()
    age_sidecar(wrong)
    days = [day for (day,) in wrong.query("SELECT released_on FROM serving.dim_release ORDER BY 1")]
    # Several releases of one day are moved apart.
    assert days[-1] >= MOVED and [str(day) for day in days] != [str(each.published_at.date()) for each in releases]

    assert sum(each.is_redated for each in upgrade(wrong.landing)) == (len(releases) if moved == "all" else 1)
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


def test_the_gate_still_refuses_lost_releases_after_an_upgrade(
    copied: Copied, releases: tuple[GeneratedRelease, ...], tmp_path
) -> None:
    workshop = Workshop(tmp_path / "wrong")
    for number, release in enumerate(releases[:2]):
        age(workshop.landing, workshop.land(release), f"etag{number}", MOVED)
    workshop.export()
    age_sidecar(workshop)
    upgrade(workshop.landing)
    workshop.remove(workshop.landing.snapshots()[-1])
    with pytest.raises(GateError, match="its newest release is"):
        workshop.export()

"""Landed WASDE reports are evidence like landed releases: verified, found damaged, and repaired."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dataflows.errors import LandingError
from dataflows.landing.damage import find_damage
from dataflows.landing.local import LocalLanding
from dataflows.landing.report import ReportFile, land_report, restore_report_marker
from dataflows.landing.snapshot import Snapshot
from dataflows.landing.verify import verify
from dataflows.source.formats import WASDE
from dataflows.source.release import Month
from tests.support.wasde_reports import Printed

NOW = datetime(2021, 9, 11, tzinfo=UTC)


@pytest.fixture
def landing(tmp_path: Path) -> LocalLanding:
    return LocalLanding(tmp_path / "landing").of(WASDE)


def land(landing: LocalLanding, month: Month, name: str = "report.xml") -> Snapshot:
    snapshot, is_new = land_report(landing, ReportFile.read(name, Printed(month).xml().encode()), NOW)
    assert is_new
    return snapshot


def test_a_report_lies_under_a_prefix_of_its_own_and_is_recognised(landing: LocalLanding) -> None:
    snapshot = land(landing, Month(2021, 9))
    assert landing.snapshots() == (snapshot,)
    assert LocalLanding(landing.root).snapshots() == ()
    assert landing.zip_path(snapshot.key).parent == landing.root / "wasde"
    assert (str(snapshot.month), str(snapshot.published_at)) == ("2021-09", "2021-09-10 12:00:00")
    again = land_report(landing, ReportFile.read("report.xml", Printed(Month(2021, 9)).xml().encode()), NOW)
    assert again == (snapshot, False)
    assert not list(landing.workspace.iterdir())


def test_damage_of_a_report_is_found_and_its_rows_are_made_again(landing: LocalLanding) -> None:
    snapshot = land(landing, Month(2021, 9))
    assert [verdict.problem for verdict in verify(landing, landing)] == [None]
    rows_path = landing.rows_path(snapshot)
    rows = rows_path.read_bytes()
    rows_path.unlink()
    landing.ready_rows("wasde")
    assert rows_path.read_bytes() == rows
    zip_path = landing.zip_path(snapshot.key)
    zip_path.write_bytes(zip_path.read_bytes()[:-10])
    (damage,) = find_damage(landing, keeps_zips=True)
    assert damage.path == zip_path
    (verdict,) = verify(landing, landing)
    assert "is not the file that was landed" in (verdict.problem or "")


def test_a_damaged_marker_is_written_again_from_the_zip(landing: LocalLanding) -> None:
    snapshot = land(landing, Month(2027, 3), "wasde0327v2.xml")
    marker = landing.marker_path(snapshot.key)
    marker.write_text("{")
    restored = restore_report_marker(marker, landing)
    assert landing.snapshots() == (restored,)
    assert {**vars(restored), "landed_at": 0} == {**vars(snapshot), "landed_at": 0}
    other = landing.marker_path("2027-03-0123456789abcdef")
    landing.zip_path(other.stem).write_bytes(landing.zip_path(snapshot.key).read_bytes())
    with pytest.raises(LandingError, match="is not what its name says"):
        restore_report_marker(other, landing)

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dataflows.lakehouse.transform import Lakehouse
from dataflows.landing.local import LocalLanding
from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.pipelines import run as pipelines
from ops.pipelines.job import Request
from tests.support.faulty_archive import FaultyArchive
from tests.support.psd_files import DATASET, release_zip, rows

MONTH = Month(2025, 5)


def test_sqlmesh_starts_before_a_new_release_is_downloaded_and_not_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child process is real; the transform, which is not the subject, is left out."""
    landing = LocalLanding(tmp_path / "landing")
    landed_at_start: list[int] = []
    children = []

    @contextmanager
    def recording(lakehouse: Lakehouse) -> Iterator[Lakehouse]:
        landed_at_start.append(len(landing.snapshots()))
        with start_child(lakehouse) as waiting:
            children.append(waiting.waiting)
            yield waiting

    start_child = pipelines.warm_up
    monkeypatch.setattr(pipelines, "warm_up", recording)
    monkeypatch.setattr(pipelines, "_bring_up_to_date", lambda job, lakehouse: False)
    with FaultyArchive(DATASET) as archive:
        archive.post(MONTH, release_zip(rows(5)), datetime(2025, 5, 12, 16, tzinfo=UTC))
        environ = {"MATERIA_DATA_DIR": str(tmp_path), "PSD_ARCHIVE_URL": archive.url, "PSD_DATASET": DATASET}
        for outcome in ("landed 2025-05", "nothing new"):
            assert outcome in pipelines.run("run-all", Settings.from_environ(environ), Request(as_of=MONTH))
    assert landed_at_start == [0], "one child, started before the release was landed"
    assert len(landing.snapshots()) == 1
    assert [child.poll() is not None for child in children] == [True], "a child without an order is ended"

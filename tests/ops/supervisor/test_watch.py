"""The watch for the month that is due, against a real archive server, with ticks a minute apart."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.health.memory import Memory, write_memory
from ops.journal.journal import Journal
from ops.supervisor.tick import tick
from tests.ops.conftest import serve
from tests.ops.supervisor.conftest import Clock, quick, settings_of
from tests.support.faulty_archive import FaultyArchive
from tests.support.psd_files import DATASET, release_zip, rows

MONTH = Month(2026, 11)
NOON = datetime(2026, 11, 10, 17, 0, tzinfo=UTC)
"""Washington's noon on the day of a WASDE report."""
POSTED = datetime(2026, 11, 10, 17, 3, tzinfo=UTC)


@pytest.fixture
def archive() -> Iterator[FaultyArchive]:
    with FaultyArchive(DATASET) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, archive: FaultyArchive) -> Settings:
    """October is served, and the daily slots have run."""
    serve(tmp_path / "serving.duckdb", 7, released_on=date(2026, 10, 9))
    return settings_of(tmp_path, PSD_ARCHIVE_URL=archive.url, PSD_DATASET=DATASET)


def ran(settings: Settings, clock: Clock, minutes: int) -> list[str]:
    """The triggers of the runs of so many ticks, one a minute."""
    triggers = []
    for _ in range(minutes):
        triggers += [slot.trigger for slot, _ in tick(settings, clock, quick).ran]
        clock.forward(minutes=1)
    return triggers


def asked(archive: FaultyArchive) -> list[tuple[str, str]]:
    found = [(request.method, request.path) for request in archive.requests]
    archive.forget_requests()
    return found


def test_each_minute_sends_one_head_and_a_posting_starts_a_run_at_once(
    settings: Settings, archive: FaultyArchive
) -> None:
    clock = Clock(NOON)
    assert ran(settings, clock, 3) == ["schedule:2026-11-10T03:00Z", "schedule:2026-11-10T17:00Z"]
    assert asked(archive) == [("HEAD", archive.path(MONTH))] * 2, "none where the poll itself was due"
    assert len(Journal(settings.journal_path).runs(100)) == 2, "a HEAD is no run"

    archive.post(MONTH, release_zip(rows(5)), POSTED)
    assert ran(settings, clock, 1) == ["schedule:2026-11-10T17:03Z"]
    assert asked(archive) == [("HEAD", archive.path(MONTH))]


def test_ticks_of_a_few_seconds_send_one_head_a_minute(settings: Settings, archive: FaultyArchive) -> None:
    clock = Clock(NOON)
    ran(settings, clock, 1)
    often = replace(settings, supervision=replace(settings.supervision, tick_s=15))
    for _ in range(8):
        tick(often, clock, quick)
        clock.forward(seconds=15)
    assert asked(archive) == [("HEAD", archive.path(MONTH))] * 2


def test_nothing_is_asked_once_the_month_is_served_or_the_hours_are_over(
    settings: Settings, archive: FaultyArchive
) -> None:
    clock = Clock(NOON)
    ran(settings, clock, 1)
    serve(settings.serving_path, 8, released_on=date(2026, 11, 10))
    ran(settings, clock, 15)
    assert asked(archive) == []
    serve(settings.serving_path, 9, released_on=date(2026, 10, 9))
    clock.now = NOON.replace(hour=20)
    ran(settings, clock, 1)
    asked(archive)
    assert ran(settings, clock, 15) == []
    assert asked(archive) == []


def test_a_posting_that_a_run_could_not_serve_is_tried_once_and_another_one_again(
    settings: Settings, archive: FaultyArchive
) -> None:
    """The run succeeds and serves nothing, as it does where the archive shows a page instead of the file."""
    clock = Clock(NOON)
    ran(settings, clock, 1)
    archive.post(MONTH, release_zip(rows(5)), POSTED)
    assert ran(settings, clock, 5) == ["schedule:2026-11-10T17:01Z"]
    archive.post(MONTH, release_zip(rows(6)), POSTED)
    assert ran(settings, clock, 3) == ["schedule:2026-11-10T17:06Z"]


def test_a_failing_run_waits_for_its_backoff(settings: Settings, archive: FaultyArchive) -> None:
    clock = Clock(NOON)
    ran(settings, clock, 1)
    archive.post(MONTH, release_zip(rows(5)), POSTED)
    (settings.data_dir / "mode").write_text("failing")
    assert ran(settings, clock, 7) == ["schedule:2026-11-10T17:01Z", "schedule:2026-11-10T17:06Z"]


def test_an_archive_that_does_not_answer_is_no_failure_of_the_tick(settings: Settings, archive: FaultyArchive) -> None:
    clock = Clock(NOON)
    ran(settings, clock, 1)
    archive.close()
    assert ran(settings, clock, 2) == []


def test_the_memory_of_another_version_is_read(tmp_path: Path) -> None:
    from ops.health.memory import memory_path, read_memory

    write_memory(tmp_path, Memory(tried_posting="a"))
    path = memory_path(tmp_path)
    path.write_text(path.read_text().replace('"tried_posting"', '"of_a_later_version": 1, "tried_posting"'))
    assert read_memory(tmp_path) == Memory(tried_posting="a")

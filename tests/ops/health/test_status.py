import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from dataflows.errors import SettingsError
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.source.probe_memory import LiveCheck
from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.health.heartbeat import beat, heartbeat_path
from ops.health.status import Severity, expected_release, take_status
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from tests.ops.conftest import serve


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environ({"MATERIA_DATA_DIR": str(tmp_path)})


@pytest.fixture
def journal(settings: Settings) -> Iterator[Journal]:
    with Journal(settings.journal_path) as journal:
        yield journal


def _record(journal: Journal, pipeline: str, status: RunStatus, parent_id: int | None = None) -> int:
    run = journal.begin(pipeline, parent_id=parent_id)
    journal.finish(run.id, status, error="no luck" if status is RunStatus.FAILED else None)
    return run.id


def _problems(settings: Settings, now: datetime | None = None) -> list[tuple[str, str]]:
    return [(problem.severity, problem.what) for problem in take_status(settings, now or utc_now()).problems]


def test_a_fresh_directory_lacks_a_generation_and_nothing_is_created(settings: Settings) -> None:
    status = take_status(settings, utc_now())
    assert not status.ok and status.generation is None
    assert [(problem.severity, problem.next_step) for problem in status.problems] == [
        (Severity.MISSING, "materia run-all")
    ]
    assert all(state.last is None for state in status.pipelines)
    assert list(settings.data_dir.iterdir()) == []


def test_all_is_well_with_a_fresh_generation_and_done_runs(settings: Settings, journal: Journal) -> None:
    now = utc_now()
    serve(settings.serving_path, 12, released_on=now.date())
    extract = _record(journal, "extract", RunStatus.DONE)
    _record(journal, "demo", RunStatus.DONE)
    status = take_status(settings, utc_now())
    assert status.ok and status.problems == ()
    assert status.generation is not None and status.generation.number == 12
    assert [state.pipeline for state in status.pipelines] == [
        "run-all",
        "extract",
        "transform",
        "export_serving",
        "demo",
    ]
    state = status.pipelines[1]
    assert state.last is not None and state.last.id == extract and state.last_success == state.last


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-01T00:00:00+00:00", Month(2026, 10)),
        ("2026-11-15T23:59:59+00:00", Month(2026, 10)),
        ("2026-11-16T00:00:00+00:00", Month(2026, 11)),
        ("2026-11-15T22:00:00-05:00", Month(2026, 11)),
        ("2026-01-02T12:00:00+00:00", Month(2025, 12)),
        ("2025-11-14T23:59:59+00:00", Month(2025, 9)),
        ("2025-11-15T00:00:00+00:00", Month(2025, 11)),
    ],
)
def test_a_release_is_expected_once_its_day_is_over_and_beyond_the_calendar_the_fifteenth(
    now: str, expected: Month
) -> None:
    assert expected_release(datetime.fromisoformat(now)) == expected


def test_a_served_release_older_than_expected_is_stale_since_it_was_due(settings: Settings, journal: Journal) -> None:
    serve(settings.serving_path, 3, released_on=date(2026, 10, 9))
    _record(journal, "extract", RunStatus.DONE)
    before, after = datetime(2026, 11, 8, 12, tzinfo=UTC), datetime(2026, 11, 16, 12, tzinfo=UTC)
    whats = [what for _, what in _problems(settings, before)]
    assert not any("newest served release" in what for what in whats)
    [stale] = [p for p in take_status(settings, after).problems if "newest served release" in p.what]
    assert stale.severity is Severity.STALE and "2026-11 should be out" in stale.what
    assert stale.since == datetime(2026, 11, 9, tzinfo=UTC)


def test_a_release_that_may_be_out_is_stale_unless_a_check_of_yesterday_found_the_served_one(
    settings: Settings,
) -> None:
    """Beyond the calendar USDA posts between the 8th and the 14th, and certainty ends on the 8th."""
    snapshot = served_snapshot(settings, date(2026, 10, 9))

    def stale(day: int, checked: int | None, key: str = snapshot.key) -> list[str]:
        live = LiveCheck(date(2026, 11, checked), key) if checked else None
        landing = LocalLanding(settings.landing_dir)
        landing.update_memory(settings.dataset, lambda memory: replace(memory, live=live))
        status = take_status(settings, datetime(2026, 11, day, 12, tzinfo=UTC))
        found = [problem.what for problem in status.problems if problem.key == "release-stale"]
        assert status.is_fresh is not bool(found)
        return found

    (what,) = stale(9, None)
    assert what.endswith("2026-11 is due since 2026-11-08, and no check shows that it is not out")
    assert not stale(8, None) and not stale(9, 9) and not stale(10, 9) and not stale(15, 14)
    assert stale(11, 9) and stale(10, 10, "another")
    (what,) = stale(16, 16)
    assert what.endswith("2026-11 should be out")


def served_snapshot(settings: Settings, released_on: date) -> Snapshot:
    """A landed marker of the one snapshot that the served generation has."""
    serve(settings.serving_path, 3, released_on=released_on)
    snapshot = Snapshot(
        dataset=settings.dataset,
        url="http://archive.invalid/psd.zip",
        etag=None,
        last_modified=None,
        release_year=released_on.year,
        release_month=released_on.month,
        released_on=released_on,
        size_bytes=1,
        sha256="0" * 64,
        member="psd.csv",
        row_count=1,
        landed_at=datetime(2026, 11, 1, tzinfo=UTC),
        key="etag1",
    )
    LocalLanding(settings.landing_dir).write_marker(snapshot)
    return snapshot


def test_after_a_rollback_the_way_forward_is_named_and_not_a_run_that_finds_nothing_new(settings: Settings) -> None:
    serve(settings.serving_path, 4, released_on=date(2026, 11, 10))
    serve(settings.serving_path, 3, released_on=date(2026, 10, 9))
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    [stale] = [p for p in take_status(settings, now).problems if p.key == "release-stale"]
    assert stale.what == "rolled back to generation 3; 4 has 2026-11-10"
    assert stale.next_step.startswith("materia serving rollback 4")
    assert stale.since == datetime.fromtimestamp(settings.serving_path.lstat().st_mtime, UTC)
    serve(settings.serving_path, 4, released_on=date(2026, 11, 10))
    assert not [p for p in take_status(settings, now).problems if p.key == "release-stale"]


def test_extract_is_stale_when_it_has_not_succeeded_for_36_hours(settings: Settings, journal: Journal) -> None:
    serve(settings.serving_path, 1, released_on=utc_now().date())
    assert _problems(settings) == [(Severity.STALE, "extract has never succeeded here")]
    _record(journal, "extract", RunStatus.DONE)
    _record(journal, "extract", RunStatus.INTERRUPTED)
    soon, late = utc_now() + timedelta(hours=35), utc_now() + timedelta(hours=37)
    serve(settings.serving_path, 2, released_on=late.date())
    assert _problems(settings, soon) == []
    assert _problems(settings, late) == [(Severity.STALE, "extract has not succeeded for more than 36 h")]


def test_an_extract_that_fails_is_one_problem_and_not_stale_besides(settings: Settings, journal: Journal) -> None:
    late = utc_now() + timedelta(hours=37)
    serve(settings.serving_path, 1, released_on=late.date())
    _record(journal, "extract", RunStatus.DONE)
    _record(journal, "extract", RunStatus.FAILED)
    assert [problem.key for problem in take_status(settings, late).problems] == ["failed-extract"]


def test_a_failure_is_a_problem_until_the_pipeline_succeeds(settings: Settings, journal: Journal) -> None:
    serve(settings.serving_path, 1, released_on=utc_now().date())
    _record(journal, "extract", RunStatus.DONE)
    failed = _record(journal, "transform", RunStatus.FAILED)
    _record(journal, "transform", RunStatus.INTERRUPTED)
    [problem] = take_status(settings, utc_now()).problems
    assert problem.severity is Severity.FAILED and problem.run_id == failed
    assert problem.next_step == f"materia pipeline run transform; `materia runs show {failed}` shows the error"
    assert problem.what == f"transform failed (run {failed}): no luck"
    _record(journal, "transform", RunStatus.DONE)
    assert _problems(settings) == []


def test_a_failed_run_all_is_reported_by_the_pipeline_that_failed_in_it(settings: Settings, journal: Journal) -> None:
    serve(settings.serving_path, 1, released_on=utc_now().date())
    whole = journal.begin("run-all")
    _record(journal, "extract", RunStatus.DONE, parent_id=whole.id)
    failed = _record(journal, "transform", RunStatus.FAILED, parent_id=whole.id)
    journal.finish(whole.id, RunStatus.FAILED, error="no luck")
    assert _problems(settings) == [(Severity.FAILED, f"transform failed (run {failed}): no luck")]
    _record(journal, "transform", RunStatus.DONE)
    assert _problems(settings) == []
    alone = _record(journal, "run-all", RunStatus.FAILED)
    assert _problems(settings) == [(Severity.FAILED, f"run-all failed (run {alone}): no luck")]


def test_an_unreadable_source_is_a_problem_and_hides_nothing_else(settings: Settings, journal: Journal) -> None:
    settings.journal_path.write_bytes(b"broken" * 1000)
    settings.serving_path.symlink_to("serving-9.duckdb")
    status = take_status(settings, utc_now())
    assert [problem.severity for problem in status.problems] == [Severity.FAILED, Severity.FAILED]
    assert "serving-9.duckdb, which does not exist" in status.problems[0].what
    assert status.problems[0].next_step.startswith("materia run-all")
    assert "runs.sqlite" in status.problems[1].what and status.problems[1].next_step.startswith("materia run-all")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"number": 1}), json.dumps({"created_at": 5})])
def test_a_generation_without_a_readable_description_is_a_problem(settings: Settings, text: str) -> None:
    serve(settings.serving_path, 4, released_on=utc_now().date())
    settings.serving_path.with_name("serving-4.json").write_text(text)
    [(severity, what), *_] = _problems(settings)
    assert severity is Severity.FAILED and "serving-4.json does not describe a generation" in what


def test_a_file_that_materia_did_not_publish_is_stale_for_all_we_know(settings: Settings) -> None:
    settings.serving_path.write_bytes(b"somebody's file")
    status = take_status(settings, utc_now())
    assert status.generation is not None and status.generation.number == 0
    assert status.problems[0].severity is Severity.STALE


@pytest.fixture
def well(settings: Settings, journal: Journal) -> Settings:
    """A data directory with nothing to complain about, where a supervisor has ticked just now."""
    serve(settings.serving_path, 1, released_on=utc_now().date())
    _record(journal, "extract", RunStatus.DONE)
    settings.supervisor_dir.mkdir()
    beat(settings.supervisor_dir, utc_now(), "waiting for what is due next", 60.0)
    assert _problems(settings) == []
    return settings


def _keys(settings: Settings, now: datetime | None = None) -> list[str]:
    return [problem.key for problem in take_status(settings, now or utc_now()).problems]


def test_a_supervisor_that_is_silent_is_stale(well: Settings) -> None:
    assert _keys(well, utc_now() + timedelta(minutes=4)) == []
    assert _keys(well, utc_now() + timedelta(minutes=6)) == ["supervisor-late"]
    heartbeat_path(well.supervisor_dir).write_text("{")
    assert _keys(well) == ["heartbeat-broken"]


def test_a_refused_commit_is_a_problem_until_it_is_fixed(well: Settings) -> None:
    refused = well.supervisor_dir / "refused"
    refused.write_text("abc123: ops/install.sh failed: no version of duckdb matches\n")
    [problem] = take_status(well, utc_now()).problems
    assert problem.key == "update-refused" and problem.since is not None
    assert problem.what.startswith("ops/install.sh failed: no version of duckdb matches: the newest commit, abc123")
    refused.unlink()
    assert _keys(well) == []


def test_code_that_could_not_be_fetched_for_a_day_is_stale(well: Settings) -> None:
    (well.supervisor_dir / "fetched").touch()
    assert "fetch-stale" not in _keys(well, utc_now() + timedelta(hours=23))
    assert "fetch-stale" in _keys(well, utc_now() + timedelta(hours=25))


def test_a_disk_that_is_nearly_full_is_a_problem(well: Settings) -> None:
    wanting = {"MATERIA_DATA_DIR": str(well.data_dir), "MATERIA_MIN_FREE_MB": str(10**9)}
    assert _keys(Settings.from_environ(wanting)) == ["disk-full"]


def test_every_problem_has_a_key_that_outlives_its_details(well: Settings, journal: Journal) -> None:
    for _ in range(2):
        _record(journal, "transform", RunStatus.FAILED)
        assert _keys(well) == ["failed-transform"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MATERIA_EXTRACT_AT", "24:00"),
        ("MATERIA_POLL_HOURS", "14:00-12:00"),
        ("MATERIA_POLL_HOURS", "noon"),
        ("MATERIA_POLL_DAYS", "0-14"),
        ("MATERIA_POLL_EVERY_MIN", "0"),
        ("MATERIA_DEADLINE_MIN", "-5"),
        ("MATERIA_TICK_S", "1.5"),
        ("ALERT_WEBHOOK_URL", "ftp://secret"),
    ],
)
def test_wrong_settings_of_the_supervisor_are_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ({name: value})

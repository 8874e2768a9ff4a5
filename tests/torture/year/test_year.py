"""A simulated year of an unattended host: the real loop, ticks and runs on a clock that jumps from event to event.

Between a release and the next there are three days on which runs are due. On each of them something happens: a file is
damaged, the archive is away, a bad commit is pushed, the supervisor or its run is killed, the disk is full for a day.
"""

import os
import random
import shutil
import signal
import sys
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from dataflows.landing.local import LocalLanding
from dataflows.serving.store import ServingStore
from dataflows.source.release import Month
from ops.config.settings import PROJECT_DIR, Settings
from ops.demo.generator import GeneratedRelease, generate
from ops.demo.history import HistorySpec
from ops.health.heartbeat import read_heartbeat
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tests.ops.supervisor.conftest import Alarm, alarm_server
from tests.ops.supervisor.host import MATERIA, Host, until
from tests.support.command_line import materia
from tests.support.faulty_archive import Fault, FaultyArchive
from tests.support.small_disk import fill, small_disk
from tests.support.torture import Figure
from tests.torture.crash.invariants import assert_sound, tables_of

pytestmark = pytest.mark.long

DATASET = "psd_coffee"
FIRST = Month(2023, 11)
"""The baseline; twelve months follow, all over by now, and each with a release in USDA's calendar."""
DAYS = (1, 9, 18)
"""After a release: on these days runs are due, and something happens."""
DISK_BYTES = 400_000_000
TICK = f'"{sys.executable}" -m tests.torture.year.tick'


@dataclass
class Year:
    """The host in its year, the archive, and what the webhook got."""

    host: Host
    archive: FaultyArchive
    alarm: Alarm
    environ: dict[str, str]
    chance: random.Random
    now: datetime = field(init=False)
    version: int = 0
    posted: dict[Month, GeneratedRelease] = field(default_factory=dict)
    postings: list[bytes] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings.from_environ(self.environ)

    @property
    def data(self) -> Path:
        return self.host.data

    def at(self, moment: datetime, timeout_s: float = 300) -> None:
        """Set the clock and wait until a tick of then has succeeded."""
        self.set_clock(moment)
        self.wait_for_tick(timeout_s)

    def set_clock(self, moment: datetime) -> None:
        self.now = moment
        draft = self.host.root / "clock.draft"
        draft.write_text(moment.isoformat())
        draft.replace(self.host.root / "clock")

    def wait_for_tick(self, timeout_s: float = 300) -> None:
        until(self._has_ticked, f"a tick succeeds at {self.now}; {self.host.output[-2000:]}", timeout_s)

    def _has_ticked(self) -> bool:
        with suppress(Exception):  # a heartbeat that was damaged
            heartbeat = read_heartbeat(self.settings.supervisor_dir)
            return heartbeat is not None and heartbeat.succeeded_at is not None and heartbeat.succeeded_at >= self.now
        return False

    def later(self, **span: float) -> None:
        self.at(self.now + timedelta(**span))

    def post(self, month: Month, content: bytes, at: datetime) -> None:
        self.archive.post(month, content, at)
        self.postings.append(content)

    def push(self, *marks: str, amend: bool = False) -> str:
        self.version += 1
        return self.host.commit(str(self.version), *marks, amend=amend)

    @property
    def reports(self) -> list[dict[str, str]]:
        """The alerts that the webhook got, without the releases that were announced to it."""
        return [each for each in self.alarm.received if each["event"] != "released"]

    def announced(self) -> list[str]:
        """The releases that were announced to the webhook, by their days."""
        return [each["released_on"] for each in self.alarm.received if each["event"] == "released"]

    def open_alerts(self) -> dict[str, str]:
        """The problems that were reported and not yet resolved, with their next steps."""
        found = {}
        for each in self.reports:
            found.pop(each["alert"], None)
            if each["event"] == "raised":
                found[each["alert"]] = each["next_step"]
        return found

    def raised(self) -> Counter[str]:
        return Counter(each["alert"] for each in self.reports if each["event"] == "raised")

    def served(self) -> Path:
        return (self.data / "serving.duckdb").resolve()


# What happens; each ends when the next day's runs are through. A name is the alert that it must cause -----------------


def cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(random.Random(1).randbytes(8192))


def _newest(year: Year, pattern: str) -> Path:
    return max(year.data.glob(pattern))


def damage(hit: Callable[[Path], None], choose: Callable[[Year], Path]) -> Callable[[Year], None]:
    def happen(year: Year) -> None:
        hit(choose(year))
        year.later(hours=1)

    return happen


def kept_generation(year: Year) -> Path:
    store = ServingStore(year.data / "serving.duckdb")
    return store.path(next(number for number in store.numbers() if number != store.served_number()))


def posted_zip(year: Year) -> Path:
    """The landed zip that was posted last: of one that USDA corrected since there is no other copy."""
    return next(path for path in year.data.glob("landing/psd/*.zip") if path.read_bytes() == year.postings[-1])


def lose_journal(year: Year) -> None:
    (year.data / "runs.sqlite").write_bytes(b"broken" * 1000)
    year.later(hours=1)


def lose_state(year: Year) -> None:
    for name in ("heartbeat.json", "memory.json"):
        (year.data / "supervisor" / name).write_bytes(year.chance.randbytes(500))
    year.later(hours=1)


def outage(year: Year) -> None:
    month = Month.of(year.now.date())
    for back in range(5):
        year.archive.misbehave(month.back(back), Fault(status=500), times=None)
    year.later(days=1)
    year.archive.behave()


def rewrite_history(year: Year) -> None:
    commit = year.push(amend=True)
    until(lambda: year.host.current == commit, "the rewritten commit is used", 120)
    year.later(hours=1)


def bad_commit(mark: str) -> Callable[[Year], None]:
    def happen(year: Year) -> None:
        good = year.host.current
        bad = year.push(mark)
        until(lambda: year.host.refused.startswith(bad), f"{mark} is refused", 120)
        assert year.host.current == good
        year.later(hours=1)
        fixed = year.push()
        until(lambda: year.host.current == fixed and not year.host.refused, "the fixed commit is used", 120)

    return happen


def kill_supervisor(year: Year) -> None:
    year.set_clock(year.now + timedelta(days=1))
    time.sleep(year.chance.uniform(0.2, 6))
    year.host.stop(signal.SIGKILL)
    year.host.start()
    year.wait_for_tick()


def kill_run(year: Year) -> None:
    year.set_clock(year.now + timedelta(days=1))
    journal = Journal(year.settings.journal_path)
    until(lambda: journal.runs(5, status=RunStatus.RUNNING), "a run is under way", 60)
    time.sleep(year.chance.uniform(0, 2))
    for run in journal.runs(5, status=RunStatus.RUNNING):
        with suppress(ProcessLookupError):
            os.killpg(os.getpgid(run.pid), signal.SIGKILL)
    year.wait_for_tick()


def full_disk(year: Year) -> None:
    fill(year.data / "filling")
    year.later(hours=1)
    year.later(hours=23)
    (year.data / "filling").unlink()
    year.later(hours=1)


def correct(year: Year) -> None:
    month = max(year.posted)
    release = year.posted[month]
    year.post(month, corrected(release), release.published_at + timedelta(days=2))
    year.later(days=1)


EVENTS: tuple[tuple[str, str, Callable[[Year], None]], ...] = (
    ("served generation is cut", "serving-damaged", damage(cut, Year.served)),
    ("served generation is overwritten", "serving-damaged", damage(overwrite, Year.served)),
    ("kept generation is cut", "generation-damaged", damage(cut, kept_generation)),
    ("lakehouse is cut", "lakehouse-damaged", damage(cut, lambda year: year.data / "lakehouse.duckdb")),
    ("lakehouse is overwritten", "lakehouse-damaged", damage(overwrite, lambda year: year.data / "lakehouse.duckdb")),
    ("SQLMesh's state is cut", "lakehouse-damaged", damage(cut, lambda year: year.data / "lakehouse-state.duckdb")),
    ("rows are cut", "rows-damaged", damage(cut, lambda year: _newest(year, "landing/raw/**/*.parquet"))),
    ("marker is cut", "landing-damaged", damage(cut, lambda year: _newest(year, "landing/psd/*.json"))),
    ("zip is cut", "landing-damaged", damage(cut, posted_zip)),
    ("zip is lost", "landing-damaged", damage(Path.unlink, posted_zip)),
    ("journal is overwritten", "", lose_journal),
    ("heartbeat and memory are overwritten", "", lose_state),
    ("outage", "failed-extract", outage),
    ("second outage", "failed-extract", outage),
    ("forced push", "", rewrite_history),
    ("second forced push", "", rewrite_history),
    ("commit whose doctor fails", "update-refused", bad_commit("doctor-fails")),
    ("commit whose ticks fail", "update-refused", bad_commit("tick-fails")),
    ("commit that does not install", "update-refused", bad_commit("install-fails")),
    ("supervisor killed", "", kill_supervisor),
    ("supervisor killed again", "", kill_supervisor),
    ("run killed", "", kill_run),
    ("run killed again", "", kill_run),
    ("full disk", "disk-full", full_disk),
    ("correction", "", correct),
    ("second correction", "", correct),
)


def corrected(release: GeneratedRelease) -> bytes:
    """The release without its last row, as USDA might post it again two days later."""
    with zipfile.ZipFile(BytesIO(release.zip_bytes)) as archive:
        (info,) = archive.infolist()
        rows = archive.read(info).splitlines(keepends=True)[:-1]
    day = release.published_at + timedelta(days=2)
    again = zipfile.ZipInfo(info.filename, (day.year, day.month, day.day, 12, 0, 0))
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(again, b"".join(rows))
    return packed.getvalue()


@pytest.fixture
def year(tmp_path: Path) -> Iterator[Year]:
    host = Host(tmp_path / "host")
    script = MATERIA.replace("#!/bin/sh\n", f"#!/bin/sh\ncd '{PROJECT_DIR}' || exit 1\n", 1)
    marker = '        echo "$(basename "$tree") $(cat "$tree/version")" >> "$MATERIA_DATA_DIR/ticks" ;;\n'
    assert marker in script
    (host.remote / "materia.sh").write_text(script.replace(marker, f"        exec {TICK} ;;\n"))
    with (
        small_disk(host.data, DISK_BYTES) as mounted,
        FaultyArchive(DATASET) as archive,
        alarm_server() as alarm,
    ):
        if not mounted:
            pytest.skip("this machine lets nothing be mounted; run it as root")
        environ = {
            "MATERIA_DATA_DIR": str(host.data),
            "MATERIA_MIN_FREE_MB": "20",
            "MATERIA_TICK_S": "1",
            "PSD_DATASET": DATASET,
            "PSD_ARCHIVE_URL": archive.url,
            "PSD_LIVE_URL": archive.live_url,
            "ALERT_WEBHOOK_URL": alarm.url,
        }
        host.extra = environ
        lived = Year(host, archive, alarm, environ, random.Random(17))
        try:
            yield lived
        finally:
            host.clear()


def test_a_year_ends_with_the_right_tables_and_every_problem_reported_and_resolved_once(
    year: Year, tmp_path: Path, figure: Figure
) -> None:
    spec = HistorySpec(DATASET, rows=2_000, releases=13, first_month=FIRST)
    releases = list(generate(spec))
    # The baseline's day has nothing to damage yet; the other events come in any order.
    events = list(EVENTS)
    year.chance.shuffle(events)
    started, count, troubles, peak = time.monotonic(), 0, list[str](), 0
    for number, release in enumerate(releases):
        year.post(release.month, release.zip_bytes, release.published_at)
        year.posted[release.month] = release
        year.set_clock(release.published_at + timedelta(hours=1))
        if number == 0:
            year.push()
            year.host.start()
        year.wait_for_tick()
        for day in DAYS if number else DAYS[:1]:
            year.at(
                datetime.combine(
                    release.published_at.date() + timedelta(days=day),
                    datetime.min.time(),
                    tzinfo=release.published_at.tzinfo,
                )
                + timedelta(hours=4)
            )
            troubles += _settle(year)
            if number < 1 or not events:
                continue
            name, alert, happen = events.pop()
            count += 1
            before = year.raised()
            happen(year)
            new = year.raised() - before
            if new[alert] != (1 if alert else 0):
                troubles.append(f"{name}: {alert or 'nothing'} was to be reported once, reported: {dict(new)}")
            peak = max(peak, shutil.disk_usage(year.data).used if name != "full disk" else 0)
    assert not events
    year.later(days=1)
    troubles += _settle(year)
    year.host.stop()
    figure("simulated days", (year.now - releases[0].published_at).days)
    figure("events", count)
    figure("alerts, each resolved", sum(year.raised().values()))
    figure("largest data directory", f"{peak / 1e6:.0f} MB")
    figure("wall time", f"{time.monotonic() - started:.0f} s")
    history = defaultdict(list)
    for each in year.reports:
        history[each["alert"]].append(each["event"])
    unpaired = {key: each for key, each in history.items() if each != ["raised", "resolved"] * (len(each) // 2)}
    assert (troubles, unpaired) == ([], {})
    announced = year.announced()
    assert announced == sorted(set(announced)), "a release is announced once"
    assert announced[-1] == str(releases[-1].published_at.date())
    figure("releases announced", len(announced))
    assert peak < 200_000_000
    assert_sound(year.data)
    landed = LocalLanding(year.data / "landing")
    zips = {landed.zip_path(each.key).read_bytes() for each in landed.snapshots()}
    assert zips == set(year.postings), "everything that was posted is landed, also what was corrected later"
    # The archive keeps corrected files only, so the clean rebuild is one from the landing.
    clean = tmp_path / "clean"
    shutil.copytree(year.data / "landing" / "psd", clean / "landing" / "psd")
    done = materia(clean, "pipeline", "run", "export_serving", timeout_s=900, **_in(year, clean))
    assert done.returncode == 0, done.stderr
    assert tables_of(year.served()) == tables_of((clean / "serving.duckdb").resolve())


def _in(year: Year, data_dir: Path) -> dict[str, str]:
    return year.environ | {"MATERIA_DATA_DIR": str(data_dir)}


def _settle(year: Year) -> list[str]:
    """What is still reported after the day's runs: its next step, executed, must solve it."""
    troubles = []
    for alert, next_step in year.open_alerts().items():
        if "materia landing repair" not in next_step:
            # A failed attempt has a backoff; the next tick after it decides.
            year.later(hours=2)
            if alert in year.open_alerts():
                troubles.append(f"{alert} is still reported at {year.now}: {next_step}")
            continue
        done = materia(year.data, "landing", "repair", timeout_s=120, **year.environ)
        year.later(hours=1)
        if done.returncode != 0 or alert in year.open_alerts():
            troubles.append(f"{alert} is still reported after its next step: {done.stderr[-500:]}")
    return troubles

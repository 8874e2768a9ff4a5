"""From a posting to its serving: the supervisor on a fast clock, with a posting at a random second of each month.

The supervisor's loop, its ticks and its runs are real; only its clock jumps over the pauses between ticks. Times are
counted on that clock, which a tick moves on by as long as it really takes.
"""

import os
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from bench.rows import Row
from dataflows.serving.store import ServingStore
from dataflows.source.release import Month
from ops.config.schedule import WASHINGTON, Slot
from ops.config.settings import Settings
from ops.demo.archive_server import ArchiveServer
from ops.demo.generator import GeneratedRelease, generate
from ops.demo.history import HistorySpec
from ops.supervisor.command import command_of
from ops.supervisor.tick import Command, tick

FIRST_MONTH = Month(2024, 12)
_SERVED_WITHIN_S = 600


@dataclass
class FastClock:
    """A clock that starts where it is set and runs at the real speed."""

    start: datetime
    since: float = field(default_factory=time.monotonic)

    def __call__(self) -> datetime:
        return self.start + timedelta(seconds=time.monotonic() - self.since)

    def jump_to(self, moment: datetime) -> None:
        self.start, self.since = moment, time.monotonic()


@dataclass(frozen=True)
class Day:
    """One release day: how long the posting waited, and how often the archive was asked before and after."""

    month: Month
    wait_s: float
    requests_before: int
    requests_after_served: int


def measure(releases: int = 12, facts: int = 2_100_000, seed: int = 1) -> list[Day]:
    """A day of each month; the first release is the baseline and not measured."""
    spec = HistorySpec(rows=facts, releases=releases + 1, first_month=FIRST_MONTH, compress_level=1)
    chance, days = random.Random(seed), list[Day]()
    with TemporaryDirectory() as folder, ArchiveServer(spec.dataset) as server:
        environ = {"PSD_ARCHIVE_URL": server.url, "MATERIA_DATA_DIR": folder}
        os.environ.update(environ)  # the supervisor's runs inherit it
        settings = Settings.from_environ(environ)
        for number, release in enumerate(generate(spec)):
            if number == 0:
                _post(server, release, _noon(release))
                _ticks_until_served(settings, server, FastClock(_noon(release)), release.month)
                continue
            after_noon, phase = timedelta(seconds=chance.uniform(240, 3600)), chance.random()
            days.append(_day(settings, server, release, after_noon, phase))
    return days


def _day(
    settings: Settings, server: ArchiveServer, release: GeneratedRelease, after_noon: timedelta, phase: float
) -> Day:
    """Tick from noon on; the release appears in the archive at its second; a tick follows after `phase` pauses."""
    clock = FastClock(_noon(release))
    posted_at = _noon(release) + after_noon
    pause = timedelta(seconds=settings.supervision.tick_s)
    # Nothing is posted before: all ticks but the last three are skipped.
    clock.jump_to(posted_at - (3 - phase) * pause)
    server.forget_requests()
    while clock() < posted_at:
        tick(settings, clock, _command(release.month))
        clock.jump_to(clock() + pause)
    before = len(server.requests)
    _post(server, release, posted_at)
    served_at = _ticks_until_served(settings, server, clock, release.month)
    server.forget_requests()
    clock.jump_to(clock() + pause)
    tick(settings, clock, _command(release.month))
    return Day(release.month, (served_at - posted_at).total_seconds(), before, len(server.requests))


def _ticks_until_served(settings: Settings, server: ArchiveServer, clock: FastClock, month: Month) -> datetime:
    """When the month was served, on the clock; raises RuntimeError if that takes too long."""
    store, end = ServingStore(settings.serving_path), clock() + timedelta(seconds=_SERVED_WITHIN_S)
    while clock() < end:
        tick(settings, clock, _command(month))
        served = store.served()
        if served is not None and served.newest_month == month:
            # The symlink is replaced at the swap; the tick goes on with the scrub, the status and alerts.
            ago_s = time.time() - settings.serving_path.lstat().st_mtime
            return clock() - timedelta(seconds=ago_s)
        clock.jump_to(clock() + timedelta(seconds=settings.supervision.tick_s))
    raise RuntimeError(f"{month} was not served within {_SERVED_WITHIN_S} s; see {settings.log_dir}")


def _command(month: Month) -> Command:
    """The supervisor's own command, from the month on the fast clock: the child has the real one."""

    def command(slot: Slot, settings: Settings) -> list[str]:
        as_of = ["--as-of", str(month)] if slot.pipeline == "run-all" else []
        return [*command_of(slot, settings), *as_of]

    return command


def _post(server: ArchiveServer, release: GeneratedRelease, at: datetime) -> None:
    server.post(release.month, release.zip_bytes, at, release.etag)


def _noon(release: GeneratedRelease) -> datetime:
    """Washington's noon of the month's first weekday from the 9th on."""
    day = date(release.month.year, release.month.month, 9)
    day += timedelta(days=max(0, 8 - day.isoweekday()) if day.isoweekday() > 5 else 0)
    return datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(WASHINGTON)).astimezone(UTC)


def rows(quick: bool) -> list[Row]:
    days = measure(releases=4 if quick else 12, facts=100_000 if quick else 2_100_000)
    waits = sorted(day.wait_s for day in days)
    p95 = waits[min(len(waits) - 1, round(0.95 * len(waits)))]
    asked = max(day.requests_before for day in days)
    note = f"{len(days)} postings; {waits[0]:.0f} to {waits[-1]:.0f} s; at most {asked} requests in the minutes before"
    after = max(day.requests_after_served for day in days)
    return [
        Row("release day, posted to served, p95", p95, "s", 90, note),
        Row("release day, requests once it is served", after, "", 0),
    ]

"""When a release was published: from the file itself first, then from HTTP, then from USDA's calendar.

In every real file the newest stamp is the release month and the zip's inner timestamp is the minute of publication.
HTTP headers belong to a server that can be moved, mirrored or restored, so they count only where they are plausible.
"""

import csv
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from dataflows.errors import LandingError
from dataflows.source.release import Month

GRACE_DAYS = 5
"""How many days after the end of its month a release may still be published."""

USUAL_DAY = 12
"""The day of a month for which USDA's calendar lists none; since 2000 all but 7 release days are the 8th to 14th."""

EARLIEST_DAY = 8
"""The earliest day of a month on which USDA may release WASDE where its calendar lists none, as in the models."""

_LATEST_CORRECTION = timedelta(days=3650)
"""How long after its month a file may be replaced; a later inner timestamp is a mistake of the tool that packed it."""

_RELEASE_DAYS = (
    Path(__file__).resolve().parents[2] / "transform" / "sqlmesh_materia" / "seeds" / "wasde_release_days.csv"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Evidence:
    """What a downloaded file and its headers say about when it was published."""

    inner_timestamp: datetime | None
    """The zip member's, in Washington's time; None when it has none."""
    newest_stamp: Month | None
    """The latest `Calendar_Year` and `Month` of its rows; None when no row has a month."""
    last_modified: str | None
    """The HTTP header as served."""


@dataclass(frozen=True)
class Dating:
    """A release's place in time."""

    month: Month
    released_on: date
    published_at: datetime | None
    """Washington's time, without a zone; None when nothing plausible says it."""


def date_release(address_month: Month | None, evidence: Evidence) -> Dating | None:
    """Date a file that was posted for `address_month` (None: the address has no month).

    The release month is that of the address, or the newest stamp if that is later. None when neither is known and
    no timestamp gives one. The result depends only on this file, not on other landed files.
    """
    served_at = _washington(evidence.last_modified)
    known = [month for month in (address_month, evidence.newest_stamp) if month]
    if not known:
        known = [Month.of(moment.date()) for moment in (evidence.inner_timestamp, served_at) if moment][:1]
    if not known:
        return None
    month = max(known)
    inner = evidence.inner_timestamp if _can_be_published(evidence.inner_timestamp, month) else None
    published_at = inner or (served_at if is_in_season(served_at, month) else None)
    dated = (moment for moment in (inner, served_at) if is_in_season(moment, month))
    moment = next(dated, None)
    released_on = moment.date() if moment else _calendar_day(month, published_at)
    return Dating(month, released_on, published_at)


def is_in_season(moment: datetime | None, month: Month) -> bool:
    """Whether a moment is in the release month or the first days after it."""
    last = month.back(-1).first_day() + timedelta(days=GRACE_DAYS)
    return moment is not None and month.first_day() <= moment.date() < last


def usda_release_days(month: Month) -> tuple[date, ...]:
    """The days on which USDA released WASDE in this month, in order; empty where the calendar has none."""
    return tuple(moment.date() for moment in usda_release_times(month))


def usda_release_times(month: Month) -> tuple[datetime, ...]:
    """The moments at which USDA released WASDE in this month, Washington's time, in order."""
    return _release_times().get(str(month), ())


def next_release_due(day: date) -> date:
    """The first day after `day` on which USDA may release WASDE: listed, or the first EARLIEST_DAY beyond the calendar.

    `dim_release.next_release_due`, at which certainty ends, is the same day.
    """
    listed = (each.date() for times in _release_times().values() for each in times if each.date() > day)
    usual = date(day.year, day.month, EARLIEST_DAY)
    if usual <= day:
        usual = Month.of(day).back(-1).first_day().replace(day=EARLIEST_DAY)
    return min(listed, default=usual)


def last_listed_month() -> Month:
    """The last month in USDA's calendar of release days; a month before it that has no day had no release."""
    return Month.parse(max(_release_times()))


def inner_timestamp(zip_path: Path, member: str) -> datetime | None:
    """The member's own timestamp inside the zip, without a zone; None when the tool that packed it wrote none.

    Raises what `zipfile` raises for a damaged zip, and KeyError when it has no such member.
    """
    with zipfile.ZipFile(zip_path) as archive:
        written = archive.getinfo(member).date_time
    try:
        return datetime(*written)
    except ValueError:  # some tools write no date, as month 0
        return None


def newest_stamp(rows_path: Path, no_later_than: Month) -> Month | None:
    """The latest stamp among unpacked rows; None when no row has a month.

    Stamps after `no_later_than` are typing errors: one of them would make its file the newest for years.
    Raises LandingError when the rows cannot be read.
    """
    import duckdb

    with duckdb.connect() as connection:
        try:
            newest = connection.execute(
                "SELECT max(stamp) FROM (SELECT DISTINCT calendar_year || '-' || month AS stamp FROM read_parquet(?)"
                " WHERE month <> '00') WHERE stamp <= ?",
                [str(rows_path), str(no_later_than)],
            ).fetchall()[0][0]
        except duckdb.Error as error:
            raise LandingError(f"{rows_path} cannot be read ({error}); remove it, it is rebuilt") from error
    return Month.parse(newest) if newest else None


def latest_plausible(address_month: Month | None, inner: datetime | None, landed_at: datetime) -> Month:
    """The month after which a stamp cannot be right: our clock may be behind, then the file's own dates count."""
    months = [Month.of(moment.date()) for moment in (inner, landed_at) if moment]
    return max([*months, address_month] if address_month else months)


def last_modified_time(last_modified: str | None) -> datetime:
    """The moment, in UTC, an HTTP `Last-Modified` header names; the epoch when there is none or it is no date."""
    try:
        moment = parsedate_to_datetime(last_modified or "")
        # "-0000" means an unknown zone; HTTP dates are always UTC.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return _EPOCH


def _washington(last_modified: str | None) -> datetime | None:
    moment = last_modified_time(last_modified)
    # The first and last day of the calendar cannot be moved between zones.
    if moment == _EPOCH or not 1 < moment.year < 9999:
        return None
    return moment.astimezone(ZoneInfo("America/New_York")).replace(tzinfo=None)


def _can_be_published(moment: datetime | None, month: Month) -> bool:
    return moment is not None and month.first_day() <= moment.date() <= month.first_day() + _LATEST_CORRECTION


def _calendar_day(month: Month, published_at: datetime | None) -> date:
    """USDA's release day of the month; of two the last on or before the publication, if that is known."""
    days = usda_release_days(month)
    if not days:
        return date(month.year, month.month, USUAL_DAY)
    passed = [day for day in days if published_at is not None and day <= published_at.date()]
    return passed[-1] if passed else days[0]


@cache
def _release_times() -> dict[str, tuple[datetime, ...]]:
    times: dict[str, tuple[datetime, ...]] = {}
    with _RELEASE_DAYS.open(newline="") as file:
        for row in csv.DictReader(file):
            moment = datetime.fromisoformat(row["released_at_washington"])
            times[row["report_month"]] = (*times.get(row["report_month"], ()), moment)
    return times

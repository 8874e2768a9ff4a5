"""The settings of unattended operation: when what runs, for how long at most, and who is told."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta
from urllib.parse import urlsplit

from dataflows.errors import SettingsError
from ops.config.parse import whole_number
from ops.config.schedule import Schedule

DOCUMENTED = {
    "MATERIA_EXTRACT_AT": "when everything runs each day, UTC; default `02:00`",
    "MATERIA_BACKSTOP_AT": "when what is landed is served even if extract failed, UTC; default `03:00`",
    "MATERIA_POLL_HOURS": "polling on release days, Washington's time; default `12:00-14:00`",
    "MATERIA_POLL_EVERY_MIN": "minutes between polls; default `10`",
    "MATERIA_POLL_DAYS": "days of the month on which USDA may release; default `8-14`",
    "MATERIA_DEADLINE_MIN": "minutes after which a scheduled run is stuck and ended; default `90`",
    "MATERIA_TICK_S": "seconds between two looks at the schedule; default `60`",
    "MATERIA_STALE_AFTER_H": "hours without a successful extract after which `status` complains; default `36`",
    "MATERIA_MIN_FREE_MB": "free disk space below which nothing is begun; default `1000`",
    "MATERIA_ESC_ENVIRONMENT": "Pulumi ESC environment that scheduled runs are started in; default none",
    "MATERIA_REMOTE": "the git repository that the supervisor's host follows",
    "MATERIA_BRANCH": "the branch that it follows; default `main`",
    "MATERIA_EXTRAS": "extras that the supervisor's host installs, of `ducklake iceberg clouds`; default none",
    "GITLAB_READ_TOKEN": "reads that repository where it is private",
    "MATERIA_SUPERVISOR_SSH_PRIVATE_KEY": "`supervisor up`: the ed25519 key that logs in to the host (from Pulumi ESC)",
    "MATERIA_SUPERVISOR_MAX_EUR_PER_MONTH": "`supervisor up`: what the host may cost a month; default `15`",
    "ALERT_WEBHOOK_URL": "address that gets each alert and its end as JSON, once; default none",
    "ALERT_PING_URL": "dead-man switch: an address that is fetched after every tick; default none",
}


@dataclass(frozen=True)
class Supervision:
    """How the supervisor works."""

    schedule: Schedule = field(default_factory=Schedule)
    deadline: timedelta = timedelta(minutes=90)
    tick_s: float = 60.0
    stale_after: timedelta = timedelta(hours=36)
    min_free_bytes: int = 1_000_000_000
    esc_environment: str | None = None
    alert_webhook_url: str | None = field(default=None, repr=False)
    alert_ping_url: str | None = field(default=None, repr=False)


def supervision_of(given: Mapping[str, str]) -> Supervision:
    """Read and check the settings of unattended operation; raises SettingsError naming the one that is wrong."""
    poll_from, poll_to = _range(given, "MATERIA_POLL_HOURS", "12:00-14:00")
    first_day, last_day = _range(given, "MATERIA_POLL_DAYS", "8-14")
    hours = _time(poll_from, "MATERIA_POLL_HOURS"), _time(poll_to, "MATERIA_POLL_HOURS")
    days = tuple(whole_number(day, "MATERIA_POLL_DAYS", 1, 31) for day in (first_day, last_day))
    if hours[0] > hours[1] or days[0] > days[1]:
        raise SettingsError("MATERIA_POLL_HOURS and MATERIA_POLL_DAYS go from the earlier to the later")
    return Supervision(
        schedule=Schedule(
            extract_at=_time(given.get("MATERIA_EXTRACT_AT", "02:00"), "MATERIA_EXTRACT_AT"),
            backstop_at=_time(given.get("MATERIA_BACKSTOP_AT", "03:00"), "MATERIA_BACKSTOP_AT"),
            poll_from=hours[0],
            poll_to=hours[1],
            poll_every_min=_number(given, "MATERIA_POLL_EVERY_MIN", 10, 1, 1440),
            poll_days=(days[0], days[1]),
        ),
        deadline=timedelta(minutes=_number(given, "MATERIA_DEADLINE_MIN", 90, 1, 1440)),
        tick_s=_number(given, "MATERIA_TICK_S", 60, 1, 3600),
        stale_after=timedelta(hours=_number(given, "MATERIA_STALE_AFTER_H", 36, 1, 2400)),
        min_free_bytes=_number(given, "MATERIA_MIN_FREE_MB", 1000, 0, 10**9) * 1_000_000,
        esc_environment=given.get("MATERIA_ESC_ENVIRONMENT"),
        alert_webhook_url=_url(given, "ALERT_WEBHOOK_URL"),
        alert_ping_url=_url(given, "ALERT_PING_URL"),
    )


def _number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    return whole_number(given.get(name, str(default)), name, least, most)


def _time(text: str, name: str) -> time:
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", text)
    if found is None:
        raise SettingsError(f"{name}={text!r} is not a time of day, such as 02:00")
    return time(int(found[1]), int(found[2]))


def _range(given: Mapping[str, str], name: str, default: str) -> tuple[str, str]:
    text = given.get(name, default)
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not (first and dash and last):
        raise SettingsError(f"{name}={text!r} is not a range, such as {default}")
    return first, last


def _url(given: Mapping[str, str], name: str) -> str | None:
    """An address; it may hold a secret, so no message repeats it."""
    address = given.get(name)
    if address is not None and not is_address(address):
        raise SettingsError(f"{name} is not an http(s) address")
    return address


def is_address(text: str) -> bool:
    """Whether it is an http(s) address with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

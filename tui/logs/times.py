"""Parses the timestamps of log lines and the times that users enter; UTC unless a time zone is given."""

import re
from datetime import UTC, datetime, timedelta

_STAMP = re.compile(
    rb"[\[<]?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)?[ ]?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")
_AGO = re.compile(r"-?(\d{1,6})\s*(s|m|h|d)(?:\s+ago)?")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LINES_TRIED = 200

FORMS = "03:10, 03:10:59, 2026-11-21, 2026-11-21 03:10 or 15m ago"


def time_of(line: bytes) -> float | None:
    """Return the timestamp at the start of a line in seconds since 1970, or None."""
    found = _STAMP.match(line)
    if found is None:
        return None
    day, clock, fraction, zone = (part.decode() if part else "" for part in found.groups())
    try:
        stamp = f"{day}T{clock}.{fraction or '0':0<6}{'+00:00' if zone in ('', 'Z') else zone}"
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:  # such as 2026-99-99
        return None


def first_time(lines: bytes) -> float | None:
    """Return the first timestamp among the first 200 lines, or None."""
    for line in lines.split(b"\n", _LINES_TRIED)[:_LINES_TRIED]:
        if (found := time_of(line)) is not None:
            return found
    return None


def parse_time(text: str, newest: datetime) -> float:
    """Parse a time that a user entered, in seconds since 1970; a time of day is its last occurrence up to `newest`.

    Raises ValueError with the accepted forms.
    """
    text = text.strip()
    if ago := _AGO.fullmatch(text):
        return newest.timestamp() - int(ago[1]) * _UNIT_S[ago[2]]
    try:
        if clock := _CLOCK.fullmatch(text):
            hour, minute, second = (int(part or 0) for part in clock.groups())
            moment = newest.astimezone(UTC).replace(hour=hour, minute=minute, second=second, microsecond=0)
            return (moment if moment <= newest else moment - timedelta(days=1)).timestamp()
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: write {FORMS}") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

"""Unattended operation from the settings: the schedule, the limits of a run, and where alerts go."""

from dataclasses import dataclass, field
from datetime import timedelta

from ops.config.schedule import Schedule
from ops.config.table import Values


@dataclass(frozen=True)
class Supervision:
    """The settings of the supervisor."""

    schedule: Schedule = field(default_factory=Schedule)
    deadline: timedelta = timedelta(minutes=90)
    tick_s: float = 60.0
    tick_silent_s: float = 600.0
    stale_after: timedelta = timedelta(hours=36)
    min_free_bytes: int = 1_000_000_000
    esc_environment: str | None = None
    alert_webhook_url: str | None = field(default=None, repr=False)
    alert_ping_url: str | None = field(default=None, repr=False)


def supervision_of(values: Values) -> Supervision:
    """Read the supervisor's settings; raises SettingsError naming the wrong one."""
    poll_from, poll_to = values["MATERIA_POLL_HOURS"]
    return Supervision(
        schedule=Schedule(
            extract_at=values["MATERIA_EXTRACT_AT"],
            backstop_at=values["MATERIA_BACKSTOP_AT"],
            poll_from=poll_from,
            poll_to=poll_to,
            poll_every_min=values["MATERIA_POLL_EVERY_MIN"],
            poll_days=values["MATERIA_POLL_DAYS"],
        ),
        deadline=timedelta(minutes=values["MATERIA_DEADLINE_MIN"]),
        tick_s=values["MATERIA_TICK_S"],
        tick_silent_s=values["MATERIA_TICK_SILENT_S"],
        stale_after=timedelta(hours=values["MATERIA_STALE_AFTER_H"]),
        min_free_bytes=values["MATERIA_MIN_FREE_MB"] * 1_000_000,
        esc_environment=values["MATERIA_ESC_ENVIRONMENT"],
        alert_webhook_url=values["ALERT_WEBHOOK_URL"],
        alert_ping_url=values["ALERT_PING_URL"],
    )

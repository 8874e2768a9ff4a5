"""The workers as they stand, in frozen rows for `materia worker list` and the console; asks each provider once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dataflows.errors import MateriaError, SettingsError
from ops.workers.caps import billed_hours
from ops.workers.errors import WorkerError
from ops.workers.provider import Instance, Provider
from ops.workers.settings import WorkerSettings, present, provider_of

COMMAND_WITH_SECRETS = "esc run beanflows/prod -- materia-tui"


@dataclass(frozen=True)
class WorkerRow:
    """A machine that works for us; times in UTC, money in EUR, a begun hour counted in full."""

    id: str
    provider: str
    type: str
    location: str
    state: str
    created_at: datetime
    eur_per_h: float
    eur_so_far: float
    expires_at: datetime
    run_id: int | None
    owner: str = ""
    ip: str | None = None


@dataclass(frozen=True)
class Workers:
    """The existing workers; `unavailable` says why they are unknown, and `next_step` what to do about it."""

    rows: tuple[WorkerRow, ...] = ()
    unavailable: str | None = None
    next_step: str = ""
    errors: tuple[str, ...] = ()
    """What the providers said that could not be asked; their workers are not among the rows."""

    @property
    def eur_per_h(self) -> float:
        return sum(row.eur_per_h for row in self.rows)


NO_TOKEN = Workers(unavailable="no token to ask a provider with", next_step=COMMAND_WITH_SECRETS)


def take_workers(workers: WorkerSettings, now: datetime) -> Workers:
    """Ask every provider whose credentials are set which machines carry our label; without any, says so.

    Raises WorkerError when none of them answers.
    """
    names = present(workers)
    if not names:
        return NO_TOKEN
    rows: list[WorkerRow] = []
    errors: list[MateriaError] = []
    for name in names:
        try:
            rows += ask(name, workers, now)
        except (WorkerError, SettingsError) as error:
            errors.append(error)
    if len(errors) == len(names):
        raise errors[0]
    return Workers(oldest_first(rows), errors=tuple(map(str, errors)))


def ask(name: str, workers: WorkerSettings, now: datetime) -> tuple[WorkerRow, ...]:
    """Ask one provider which machines carry our label; raises WorkerError, SettingsError."""
    return rows_of(provider_of(name, workers), now)


def oldest_first(rows: Iterable[WorkerRow]) -> tuple[WorkerRow, ...]:
    """The order in which machines of all providers are shown."""
    return tuple(sorted(rows, key=lambda row: (row.created_at, row.id)))


def rows_of(provider: Provider, now: datetime) -> tuple[WorkerRow, ...]:
    """A provider's machines that carry our label, oldest first."""
    found = sorted(provider.list_instances(), key=lambda each: (each.labels.created_at, each.name))
    return tuple(_row(each, now) for each in found)


def _row(instance: Instance, now: datetime) -> WorkerRow:
    return WorkerRow(
        id=instance.name,
        provider=instance.provider,
        type=instance.type,
        location=instance.location,
        state=instance.status,
        created_at=instance.labels.created_at,
        eur_per_h=instance.eur_per_hour,
        eur_so_far=round(billed_hours(now - instance.labels.created_at) * instance.eur_per_hour, 4),
        expires_at=instance.labels.expires_at,
        run_id=instance.labels.run_id,
        owner=instance.labels.owner,
        ip=instance.ip,
    )

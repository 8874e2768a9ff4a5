"""The current workers as frozen rows for `materia worker list` and the console; asks each provider once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dataflows.errors import MateriaError, SettingsError
from ops.workers.caps import billed_hours
from ops.workers.errors import WorkerError
from ops.workers.provider import Instance, Provider
from ops.workers.settings import WorkerSettings, configured_providers, provider_of

COMMAND_WITH_SECRETS = "esc run beanflows/prod -- materia-tui"


@dataclass(frozen=True)
class WorkerRow:
    """A worker; times in UTC, money in EUR, a started hour billed in full."""

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
    """The existing workers; `unavailable` is the reason if they are unknown, `next_step` what to do then."""

    rows: tuple[WorkerRow, ...] = ()
    unavailable: str | None = None
    next_step: str = ""
    errors: tuple[str, ...] = ()
    """Errors of providers that did not answer; their workers are not among the rows."""

    @property
    def eur_per_h(self) -> float:
        return sum(row.eur_per_h for row in self.rows)


NO_TOKEN = Workers(unavailable="no provider's credentials are set", next_step=COMMAND_WITH_SECRETS)


def take_workers(workers: WorkerSettings, now: datetime) -> Workers:
    """List the workers of every provider whose credentials are set; NO_TOKEN without any.

    Raises WorkerError if no provider answers.
    """
    names = configured_providers(workers)
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
    """List the workers of one provider; raises WorkerError, SettingsError."""
    return rows_of(provider_of(name, workers), now)


def oldest_first(rows: Iterable[WorkerRow]) -> tuple[WorkerRow, ...]:
    """Sort the machines of all providers by age."""
    return tuple(sorted(rows, key=lambda row: (row.created_at, row.id)))


def rows_of(provider: Provider, now: datetime) -> tuple[WorkerRow, ...]:
    """A provider's machines with our label, oldest first."""
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

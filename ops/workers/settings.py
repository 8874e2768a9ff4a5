"""The settings of workers, read from the environment and checked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module

from dataflows.errors import MateriaError, SettingsError
from ops.config.table import PROVIDERS, Values, complete_providers, needed_by
from ops.workers.caps import Caps
from ops.workers.provider import Provider

LOCAL = "local"
ANYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True)
class WorkerSettings:
    """Limits of workers: spending caps, lifetime, locations, and the networks that may reach them."""

    caps: Caps
    ttl: timedelta
    locations: tuple[str, ...]
    ssh_from: tuple[str, ...]
    ssh_port: int
    values: Values
    """Of the providers' settings, which each provider's module reads itself."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "WorkerSettings":
        """Read and check them; raises SettingsError naming the one that is wrong."""
        values = Values.from_environ(environ)
        return cls(
            caps=Caps(
                count=int(values["MATERIA_WORKER_MAX_COUNT"]),
                eur_per_run=values["MATERIA_WORKER_MAX_EUR_PER_RUN"],
                eur_per_day=values["MATERIA_WORKER_MAX_EUR_PER_DAY"],
            ),
            ttl=timedelta(minutes=values["MATERIA_WORKER_TTL_MINUTES"]),
            locations=values["MATERIA_WORKER_LOCATIONS"] or (),
            ssh_from=values["MATERIA_WORKER_SSH_FROM"] or ANYWHERE,
            ssh_port=int(values["MATERIA_WORKER_SSH_PORT"]),
            values=values,
        )


def missing_for(name: str, settings: WorkerSettings) -> tuple[str, ...]:
    """The environment variables that a provider needs and that are not set; raises SettingsError for no provider."""
    if name not in PROVIDERS:
        raise SettingsError(f"there is no provider {name!r}; choose one of {', '.join((LOCAL, *PROVIDERS))}")
    return tuple(each for each in needed_by(name) if each not in settings.values.given)


def configured_providers(settings: WorkerSettings) -> tuple[str, ...]:
    """The providers whose credentials are all set."""
    return complete_providers(settings.values.given)


def provider_of(name: str, settings: WorkerSettings, *, pause_s: float = 1.0) -> Provider:
    """The provider of that name; `pause_s` is the first pause between two attempts.

    Raises SettingsError when there is none, saying which credentials are missing, or that its client is not installed.
    """
    if missing := missing_for(name, settings):
        raise SettingsError(
            f"{name} needs {_join(missing)}, which {'is' if len(missing) == 1 else 'are'} not set; "
            "for example `esc run beanflows/prod -- materia …`"
        )
    try:
        module = import_module(f"ops.workers.providers.{name}")
        provider: Provider = module.provider(settings.values, pause_s=pause_s)
        return provider
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{name} needs the package {error.name}, which is not installed; "
            "install the extra: `uv sync --extra clouds`, on the supervisor's host MATERIA_EXTRAS=clouds"
        ) from error
    except MateriaError:
        raise
    except Exception as error:
        # Without the client's message: some quote the invalid key.
        raise SettingsError(
            f"invalid credentials for {name} ({type(error).__name__}): check the format of {_join(needed_by(name))}"
        ) from None


def choose_provider(settings: WorkerSettings, named: str | None) -> str:
    """The named provider, or the only one whose credentials are set."""
    if named and named != LOCAL:
        missing_for(named, settings)
        return named
    found = configured_providers(settings)
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingsError(f"the credentials of {_join(found)} are set; choose one with `--on`")
    raise SettingsError(no_provider_reason(settings))


def no_provider_reason(settings: WorkerSettings) -> str:
    """Why no provider is available: what is missing for each."""
    needs = "; ".join(f"{name} needs {_join(missing_for(name, settings))}" for name in PROVIDERS)
    return f"no provider's credentials are set: {needs}"


def _join(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]

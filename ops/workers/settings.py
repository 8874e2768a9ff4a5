"""What the environment says of workers, read and checked."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from dataflows.errors import SettingsError
from ops.workers.caps import Caps
from ops.workers.provider import Provider

LOCAL = "local"
PROVIDERS = ("hetzner",)
ANYWHERE = ("0.0.0.0/0", "::/0")
_MOST_TTL_MINUTES = 24 * 60


@dataclass(frozen=True)
class WorkerSettings:
    """Which machines may be had, for how long, for how much, and who may reach them."""

    caps: Caps
    ttl: timedelta
    locations: tuple[str, ...]
    ssh_from: tuple[str, ...]
    ssh_port: int
    hetzner_token: str | None = field(repr=False)
    hetzner_api_url: str | None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "WorkerSettings":
        """Read and check them; raises SettingsError naming the one that is wrong."""
        given = {name: value.strip() for name, value in environ.items() if value.strip()}
        return cls(
            caps=Caps(
                count=int(_number(given, "MATERIA_WORKER_MAX_COUNT", 2, most=100)),
                eur_per_run=_number(given, "MATERIA_WORKER_MAX_EUR_PER_RUN", 0.5, most=1000),
                eur_per_day=_number(given, "MATERIA_WORKER_MAX_EUR_PER_DAY", 2.0, most=1000),
            ),
            ttl=timedelta(minutes=_number(given, "MATERIA_WORKER_TTL_MINUTES", 120, least=5, most=_MOST_TTL_MINUTES)),
            locations=_names(given.get("MATERIA_WORKER_LOCATIONS", "")),
            ssh_from=_networks(_names(given.get("MATERIA_WORKER_SSH_FROM", ""))),
            ssh_port=int(_number(given, "MATERIA_WORKER_SSH_PORT", 22, least=1, most=65_535)),
            hetzner_token=given.get("HETZNER_TOKEN"),
            hetzner_api_url=given.get("HETZNER_API_URL"),
        )


def provider_of(name: str, settings: WorkerSettings) -> Provider:
    """The provider of that name; raises SettingsError when there is none, or saying which credential is missing."""
    if name not in PROVIDERS:
        raise SettingsError(f"there is no provider {name!r}; there are {', '.join((LOCAL, *PROVIDERS))}")
    if settings.hetzner_token is None:
        raise SettingsError(
            "hetzner needs HETZNER_TOKEN, which is not set; for example `esc run beanflows/prod -- materia …`"
        )
    from ops.workers import hetzner

    return hetzner.provider(settings.hetzner_token, settings.hetzner_api_url or hetzner.API_URL)


def _number(given: Mapping[str, str], name: str, default: float, *, least: float = 0, most: float) -> float:
    text = given.get(name, str(default))
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise SettingsError(f"{name}={text!r} is not a number from {least:g} to {most:g}")
    return number


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _networks(given: tuple[str, ...]) -> tuple[str, ...]:
    for network in given:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise SettingsError(
                f"MATERIA_WORKER_SSH_FROM: {network!r} is no network such as 203.0.113.7/32 ({error})"
            ) from error
    return given or ANYWHERE

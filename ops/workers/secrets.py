"""Which settings each pipeline gets on a worker, and which names of the secret store are set. Never shows a value."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dataflows.lakehouse.spark_settings import NAMES as SPARK_NAMES
from ops.config.iceberg import NAMES as ICEBERG_NAMES
from ops.config.object_storage import NAMES as OBJECT_STORAGE_NAMES
from ops.config.table import BY_NAME, PROVIDERS, SETTINGS, needed_by

WORKERS = "workers"
LAKEHOUSE_NAMES = {
    "ducklake": ("MATERIA_GATEWAY", "DUCKLAKE_CATALOG", "DUCKLAKE_PASSWORD", "DUCKLAKE_DATA"),
    "spark": ("MATERIA_GATEWAY", *(name for name in SPARK_NAMES if BY_NAME[name].sent_to)),
}


@dataclass(frozen=True)
class Presence:
    """Whether a name is set, which pipelines need it, and whether it is secret."""

    name: str
    is_present: bool
    is_secret: bool
    wanted_by: tuple[str, ...]
    provider: str | None = None
    """The provider, if the name is needed to create workers."""


def check(environ: Mapping[str, str] = os.environ) -> tuple[Presence, ...]:
    """Every name that the secret store should hold, including those of the gateway."""
    gateway = environ.get("MATERIA_GATEWAY", "").strip()
    names = (*OBJECT_STORAGE_NAMES, *LAKEHOUSE_NAMES.get(gateway, ()), *ICEBERG_NAMES)

    def presence(name: str, who: tuple[str, ...], provider: str | None = None) -> Presence:
        return Presence(name, bool(environ.get(name, "").strip()), BY_NAME[name].is_secret, who, provider)

    def wanted() -> Iterator[Presence]:
        for name in names:
            yield presence(name, BY_NAME[name].sent_to)
        # Names that this machine needs to create workers; workers do not get them.
        for provider in PROVIDERS:
            for name in needed_by(provider):
                yield presence(name, (WORKERS,), provider)

    return tuple(wanted())


def worker_environ(pipeline: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that a pipeline gets on a worker, if they have a value."""
    return {
        setting.name: environ[setting.name]
        for setting in SETTINGS
        if pipeline in setting.sent_to and environ.get(setting.name, "").strip()
    }

"""Which values from the environment each pipeline may see on a worker, and which of them are there. Never a value."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ops.config.iceberg import NAMES as ICEBERG_NAMES
from ops.config.providers import PROVIDERS
from ops.host.redact import is_secret

R2_NAMES = ("R2_ENDPOINT", "R2_BUCKET", "R2_ACCESS_KEY", "R2_SECRET_KEY")
WORKERS = "workers"

LAKEHOUSE_NAMES = ("MATERIA_GATEWAY", "DUCKLAKE_CATALOG", "DUCKLAKE_PASSWORD", "DUCKLAKE_DATA")

DECLARED: Mapping[str, tuple[str, ...]] = {
    "extract": R2_NAMES,
    "transform": (*R2_NAMES, *LAKEHOUSE_NAMES),
    "export_serving": (*R2_NAMES, *LAKEHOUSE_NAMES, *ICEBERG_NAMES),
    "run-all": (*R2_NAMES, *LAKEHOUSE_NAMES, *ICEBERG_NAMES),
}
"""What a pipeline needs of the secret store; nothing else reaches a worker."""

SENT_SETTINGS = (
    "PSD_ARCHIVE_URL",
    "PSD_LIVE_URL",
    "PSD_USER_AGENT",
    "PSD_DATASET",
    "MATERIA_MAX_ROW_LOSS",
    "ICEBERG_NAMESPACE",
    "ICEBERG_KEEP_DAYS",
)
"""Settings, no secrets, that a worker gets as they are here."""


@dataclass(frozen=True)
class Presence:
    """Whether a name is set, for whom it is, and whether its value must never be shown."""

    name: str
    is_present: bool
    is_secret: bool
    wanted_by: tuple[str, ...]
    provider: str | None = None
    """Whose name it is, where it is for workers."""


def check(environ: Mapping[str, str] = os.environ) -> tuple[Presence, ...]:
    """Every name that the secret store should hold; those of a DuckLake where one is the gateway."""
    unused = () if environ.get("MATERIA_GATEWAY", "").strip() == "ducklake" else LAKEHOUSE_NAMES

    def presence(name: str, who: tuple[str, ...], provider: str | None = None) -> Presence:
        return Presence(name, bool(environ.get(name, "").strip()), is_secret(name), who, provider)

    def wanted() -> Iterator[Presence]:
        declared_names = (name for declared in DECLARED.values() for name in declared)
        names = dict.fromkeys(name for name in declared_names if name not in unused)
        for name in names:
            yield presence(name, tuple(pipeline for pipeline, declared in DECLARED.items() if name in declared))
        # What only this machine needs to have workers; it never reaches one.
        for provider, needs in PROVIDERS.items():
            for name in needs.needed:
                yield presence(name, (WORKERS,), provider)

    return tuple(wanted())


def for_worker(pipeline: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What a pipeline gets on a worker: the names it declares and a few settings, as far as they are set."""
    names = (*DECLARED[pipeline], *SENT_SETTINGS)
    return {name: environ[name] for name in names if environ.get(name, "").strip()}

"""Who offers machines, and which environment variables each needs for that."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """The environment variables that a provider needs, and those that it may have beside them."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.needed, *self.optional)


PROVIDERS: Mapping[str, Needs] = {
    "hetzner": Needs(("HETZNER_TOKEN",), ("HETZNER_API_URL",)),
    # As the openrc.sh that OVH hands out sets them.
    "ovh": Needs(("OS_USERNAME", "OS_PASSWORD", "OS_TENANT_ID", "OS_REGION_NAME"), ("OS_AUTH_URL", "OVH_PRICES_URL")),
    # As Scaleway's own tools read them.
    "scaleway": Needs(("SCW_ACCESS_KEY", "SCW_SECRET_KEY", "SCW_DEFAULT_PROJECT_ID"), ("SCW_API_URL", "SCW_ZONES")),
    # As Oracle's own command line reads them; the last two say where machines go.
    "oracle": Needs(
        (
            "OCI_CLI_USER",
            "OCI_CLI_TENANCY",
            "OCI_CLI_FINGERPRINT",
            "OCI_CLI_REGION",
            "OCI_CLI_KEY_CONTENT",
            "OCI_COMPARTMENT_ID",
            "OCI_SUBNET_ID",
        ),
        ("OCI_API_URL", "OCI_PRICES_URL"),
    ),
}


def complete(given: Mapping[str, str]) -> tuple[str, ...]:
    """The providers for which everything that they need is set."""
    return tuple(name for name, needs in PROVIDERS.items() if all(given.get(each, "").strip() for each in needs.needed))

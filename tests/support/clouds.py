"""Every provider on a stand-in for its API, so that one test can hold them all to the same promises."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ops.workers.provider import Provider
from ops.workers.providers import scaleway
from ops.workers.settings import WorkerSettings, provider_of
from tests.support import fake_hetzner, fake_oracle, fake_ovh, fake_scaleway
from tests.support.fake_cloud import FakeCloud

PAUSE_S = 0.001


@dataclass
class CloudUnderTest:
    """A provider, the stand-in that it asks, and the environment with which Materia finds both."""

    name: str
    fake: Any
    environ: Mapping[str, str]
    wrong_environ: Mapping[str, str]
    """The same with a credential that is refused."""
    secret: str
    prices: Mapping[tuple[str, str], float]
    """EUR an hour, by type and location, as the bill has it: machine, disk, address, tax."""

    @cached_property
    def provider(self) -> Provider:
        return provider_of(self.name, WorkerSettings.from_environ(self.environ), pause_s=PAUSE_S)


TAX = 1.2


def _hetzner(fake: fake_hetzner.FakeHetzner) -> CloudUnderTest:
    environ = {"HETZNER_TOKEN": fake_hetzner.TOKEN, "HETZNER_API_URL": fake.url}
    prices = {
        (name, place): eur + fake_hetzner.ADDRESS_EUR
        for name, (_, _, eur, places) in fake_hetzner.TYPES.items()
        for place in places
    }
    wrong = {"HETZNER_TOKEN": "another"}
    return CloudUnderTest("hetzner", fake, environ, environ | wrong, fake_hetzner.TOKEN, prices)


def _ovh(fake: fake_ovh.FakeOvh) -> CloudUnderTest:
    environ = {
        "OS_USERNAME": fake_ovh.USERNAME,
        "OS_PASSWORD": fake_ovh.PASSWORD,
        "OS_TENANT_ID": fake_ovh.PROJECT_ID,
        "OS_REGION_NAME": ",".join(fake_ovh.REGIONS),
        "OS_AUTH_URL": f"{fake.url}/v3",
        "OVH_PRICES_URL": f"{fake.url}/catalogue",
    }
    prices = {
        (name, region): eur * TAX
        for name, (*_, eur) in fake_ovh.TYPES.items()
        for region in fake_ovh.REGIONS
        if not name.startswith("win-")
    }
    wrong = {"OS_PASSWORD": "another"}
    return CloudUnderTest("ovh", fake, environ, environ | wrong, fake_ovh.PASSWORD, prices)


def _scaleway(fake: fake_scaleway.FakeScaleway) -> CloudUnderTest:
    environ = {
        "SCW_ACCESS_KEY": fake_scaleway.ACCESS_KEY,
        "SCW_SECRET_KEY": fake_scaleway.SECRET_KEY,
        "SCW_DEFAULT_PROJECT_ID": fake_scaleway.PROJECT_ID,
        "SCW_ZONES": ",".join(fake_scaleway.ZONES),
        "SCW_API_URL": fake.url,
    }
    beside = 40 * scaleway.DISK_EUR_PER_GB_HOUR + scaleway.ADDRESS_EUR_PER_HOUR
    prices = {
        (name, zone): (eur + beside) * TAX for name, (_, _, eur, zones) in fake_scaleway.TYPES.items() for zone in zones
    }
    wrong = {"SCW_SECRET_KEY": fake_scaleway.SECRET_KEY.replace("1", "2")}
    return CloudUnderTest("scaleway", fake, environ, environ | wrong, fake_scaleway.SECRET_KEY, prices)


def _oracle(fake: fake_oracle.FakeOracle) -> CloudUnderTest:
    environ = {
        "OCI_CLI_USER": fake_oracle.USER,
        "OCI_CLI_TENANCY": fake_oracle.TENANCY,
        "OCI_CLI_FINGERPRINT": fake_oracle.FINGERPRINT,
        "OCI_CLI_REGION": fake_oracle.REGION,
        "OCI_CLI_KEY_CONTENT": fake_oracle.signing_key(),
        "OCI_COMPARTMENT_ID": fake_oracle.COMPARTMENT,
        "OCI_SUBNET_ID": fake_oracle.SUBNET,
        "OCI_API_URL": fake.url,
        "OCI_PRICES_URL": f"{fake.url}/prices",
    }
    eur = {part: price * TAX for part, (_, price) in fake_oracle.PRICES.items()}
    disk = 50 * (eur["B91961"] + 10 * eur["B91962"]) / 730
    prices = {
        (f"{shape}:{ocpus}x{memory}", domain): ocpus * eur[ocpu] + memory * eur[gigabyte] + disk
        for shape, ocpu, gigabyte in (
            ("VM.Standard.E4.Flex", "B93113", "B93114"),
            ("VM.Standard.E5.Flex", "B97384", "B97385"),
        )
        for ocpus, memory in ((1, 8), (2, 16), (4, 32))
        for domain in fake_oracle.DOMAINS
    }
    wrong = {"OCI_CLI_FINGERPRINT": fake_oracle.FINGERPRINT.replace("20", "21")}
    secret = fake_oracle.signing_key().splitlines()[1]
    return CloudUnderTest("oracle", fake, environ, environ | wrong, secret, prices)


_MADE = {
    "hetzner": (fake_hetzner.FakeHetzner, _hetzner),
    "ovh": (fake_ovh.FakeOvh, _ovh),
    "scaleway": (fake_scaleway.FakeScaleway, _scaleway),
    "oracle": (fake_oracle.FakeOracle, _oracle),
}
NAMES = tuple(_MADE)


@contextmanager
def cloud_under_test(name: str) -> Iterator[CloudUnderTest]:
    """A provider on its stand-in; afterwards every request and answer must have been as described."""
    fake_of, made_of = _MADE[name]
    fake: FakeCloud = fake_of()
    with fake:
        yield made_of(fake)
        assert fake.violations == []

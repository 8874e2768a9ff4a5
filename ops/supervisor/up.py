"""`materia supervisor up`: one small machine that is always on, made when it is missing, bootstrapped once.

Afterwards the host updates itself, and this only looks whether it is alive. Nothing is kept here in between: the
provider knows the machine by its name, and its host key follows from our own SSH key, so that whoever holds
that key (the deploy job, from Pulumi ESC) knows the one host key to accept.
"""

import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import SettingsError
from ops.config.table import Values
from ops.workers.errors import HostKeyError, NoCapacityError, WorkerError
from ops.workers.keys import KeyPair, cloud_init
from ops.workers.labels import Labels
from ops.workers.provider import Instance, Order, Provider, Size, ladder
from ops.workers.settings import WorkerSettings
from ops.workers.ssh import Access, run_script, wait_for_ssh

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from fabric import Connection

NAME = "materia-supervisor"
SIZE = Size(cores=2, memory_gb=4)
OWNER = "supervisor"
HOURS_A_MONTH = 730
BOOTSTRAP = Path(__file__).with_name("bootstrap_supervisor.sh")

ALWAYS_ON = timedelta(days=36_500)
"""A time to live that never ends: nothing that reaps workers takes the supervisor for one that was forgotten."""

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
"""The same in every label, so that two deploy jobs at once order one and the same machine."""

_ANSWERS_WITHIN_S = 300.0
_BOOTSTRAP_S = 900.0
_LOOK_S = 60.0

_LOOK = """
home=$MATERIA_PREFIX/opt/materia
heartbeat=$MATERIA_PREFIX/data/materia/supervisor/heartbeat.json
if [ ! -x "$home/supervisor.sh" ]; then
    echo absent
elif [ -z "$MATERIA_PREFIX" ] && ! systemctl is-active --quiet materia-supervisor; then
    echo stopped
elif [ -z "$(find "$heartbeat" -mmin -15 2>/dev/null)" ]; then
    echo silent
else
    echo "alive $(basename "$(readlink "$home/current" || echo unknown)")"
fi
"""


@dataclass(frozen=True)
class Plan:
    """The host that is wanted. `prefix` is the bootstrap's MATERIA_PREFIX: empty on a real host."""

    remote: str
    branch: str
    client_key: KeyPair
    read_token: str | None = field(repr=False)
    most_eur_per_hour: float
    locations: tuple[str, ...]
    ssh_port: int
    ssh_from: tuple[str, ...]
    prefix: str = ""
    alive_within_s: float = 1800.0
    pause_s: float = 10.0


def plan_of(workers: WorkerSettings, environ: Mapping[str, str] = os.environ) -> Plan:
    """As the environment says; raises SettingsError naming what is missing or wrong."""
    values = Values.from_environ(environ)
    given = values.given
    if missing := [name for name in ("MATERIA_REMOTE", "MATERIA_SUPERVISOR_SSH_PRIVATE_KEY") if name not in given]:
        raise SettingsError(f"`materia supervisor up` needs {' and '.join(missing)}; see docs/how-to/supervisor.md")
    return Plan(
        remote=given["MATERIA_REMOTE"],
        branch=values["MATERIA_BRANCH"],
        client_key=client_key_of(given["MATERIA_SUPERVISOR_SSH_PRIVATE_KEY"]),
        read_token=given.get("GITLAB_READ_TOKEN"),
        most_eur_per_hour=values["MATERIA_SUPERVISOR_MAX_EUR_PER_MONTH"] / HOURS_A_MONTH,
        locations=workers.locations,
        ssh_port=workers.ssh_port,
        ssh_from=workers.ssh_from,
    )


def up(provider: Provider, plan: Plan, told: Callable[[str], None]) -> str:
    """Make, bootstrap or only look at the supervisor's host; returns the commit that it uses.

    Raises WorkerError when it cannot be had or gives no sign of life in time. Costs nothing where it is alive.
    """
    host_key = host_key_of(plan.client_key)
    instance = next((each for each in provider.list_instances() if each.name == NAME), None)
    if instance is None:
        instance = _made(provider, plan, host_key)
        eur_a_month = instance.eur_per_hour * HOURS_A_MONTH
        told(f"made {NAME}: {instance.type} at {instance.location}, {eur_a_month:.2f} EUR a month")
    elif instance.labels.host_key != host_key.short:
        raise HostKeyError(
            f"{NAME} was made with another MATERIA_SUPERVISOR_SSH_PRIVATE_KEY; give that one, or destroy the machine"
        )
    if instance.ip is None:
        raise WorkerError(f"{NAME} has no address; look into the provider's console")
    access = Access(instance.ip, plan.ssh_port, provider.user, plan.client_key, host_key.public)
    connection = wait_for_ssh(access, _ANSWERS_WITHIN_S)
    try:
        state = _look(connection, plan)
        if state in ("absent", "stopped"):
            told(f"the supervisor is {state}: bootstrapping {instance.ip}")
            _bootstrap(connection, plan, told)
        return _alive(connection, plan, told)
    finally:
        connection.close()


def client_key_of(private: str) -> KeyPair:
    """The pair of an ed25519 private key as OpenSSH writes it; raises SettingsError when it is none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_ssh_private_key(private.strip().encode() + b"\n", password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError("MATERIA_SUPERVISOR_SSH_PRIVATE_KEY is no OpenSSH key without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError("MATERIA_SUPERVISOR_SSH_PRIVATE_KEY is no ed25519 key; see `ssh-keygen -t ed25519`")
    return _pair(key)


def host_key_of(client_key: KeyPair) -> KeyPair:
    """The host key that follows from our own key (HKDF): always the same, and of no use to find ours from."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    ours = serialization.load_ssh_private_key(client_key.private.encode(), password=None)
    raw = ours.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    seed = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"materia supervisor host key").derive(raw)
    return _pair(Ed25519PrivateKey.from_private_bytes(seed))


def _pair(key: "Ed25519PrivateKey") -> KeyPair:
    from cryptography.hazmat.primitives import serialization

    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(private.decode(), public.decode())


def _made(provider: Provider, plan: Plan, host_key: KeyPair) -> Instance:
    order = Order(
        name=NAME,
        labels=Labels(OWNER, None, SINCE, ALWAYS_ON, host_key.short),
        public_key=plan.client_key.public,
        user_data=cloud_init(host_key, plan.client_key.public, plan.ssh_port),
        ssh_port=plan.ssh_port,
        ssh_from=plan.ssh_from,
    )
    refusals = []
    for offer in ladder(provider.offers(), SIZE, plan.locations, plan.most_eur_per_hour):
        try:
            return provider.create_instance(order, offer)
        except NoCapacityError as error:
            refusals.append(str(error))
    raise NoCapacityError(f"no capacity: all {len(refusals)} offers failed (last: {refusals[-1]}); try again later")


def _look(connection: "Connection", plan: Plan) -> str:
    """`absent`, `stopped`, `silent`, or `alive COMMIT`."""
    lines: list[bytes] = []
    script = f"MATERIA_PREFIX={shlex.quote(plan.prefix)}\n{_LOOK}"
    ended = run_script(connection, script, timeout_s=_LOOK_S, told=lines.append)
    if ended.exit_code != 0 or not lines:
        raise WorkerError(f"nobody can tell how {NAME} is: {ended.complaint or 'it said nothing'}; try again")
    return lines[-1].decode(errors="replace")


def _bootstrap(connection: "Connection", plan: Plan, told: Callable[[str], None]) -> None:
    """Everything travels over the channel's stdin: the token is in no argument, on neither side."""
    given = {
        "MATERIA_REMOTE": plan.remote,
        "MATERIA_BRANCH": plan.branch,
        "MATERIA_PREFIX": plan.prefix,
        "GITLAB_READ_TOKEN": plan.read_token or "",
    }
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
    ended = run_script(
        connection,
        assignments + BOOTSTRAP.read_text(),
        timeout_s=_BOOTSTRAP_S,
        told=lambda line: told(line.decode(errors="replace")),
    )
    if ended.exit_code != 0:
        raise WorkerError(f"the bootstrap of {NAME} failed: {ended.complaint or 'without a word'}; it may be repeated")


def _alive(connection: "Connection", plan: Plan, told: Callable[[str], None]) -> str:
    """Wait for a sign of life, which a new host gives once it has installed its first commit."""
    deadline = time.monotonic() + plan.alive_within_s
    while not (state := _look(connection, plan)).startswith("alive "):
        if time.monotonic() > deadline:
            raise WorkerError(
                f"{NAME} is {state}: no sign of life within {plan.alive_within_s:.0f} s; "
                "log in and read /opt/materia/update.log and `journalctl -u materia-supervisor`"
            )
        time.sleep(plan.pause_s)
    commit = state.removeprefix("alive ")
    told(f"{NAME} is alive, at {commit}")
    return commit

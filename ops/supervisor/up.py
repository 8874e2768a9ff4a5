"""`materia supervisor up`: one small machine that is always on, created if it is missing, bootstrapped once.

Afterwards the host updates itself, and this only checks that it runs the wanted commit and that a tick succeeded.
Nothing is kept here in between: the provider knows the machine by its name, and its host key follows from our own SSH
key, so that the deploy job, which gets that key from Pulumi ESC, knows the one host key to accept.
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
from ops.health.heartbeat import Heartbeat, parse_heartbeat
from ops.workers.errors import HostKeyError, NoCapacityError, WorkerError
from ops.workers.keys import KeyPair, client_key_of, cloud_init, pair_of
from ops.workers.labels import Labels
from ops.workers.provider import Instance, Order, Provider, Size, ladder
from ops.workers.settings import WorkerSettings
from ops.workers.ssh import Access, run_script, wait_for_ssh

if TYPE_CHECKING:
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
state=$MATERIA_PREFIX/data/materia/supervisor
# The service's user owns the repository, and this runs as root.
in_repo() { git -c safe.directory='*' --git-dir="$home/repo.git" "$@" 2>/dev/null; }
if [ ! -x "$home/supervisor.sh" ]; then
    echo service=absent
elif [ -z "$MATERIA_PREFIX" ] && ! systemctl is-active --quiet materia-supervisor; then
    echo service=stopped
fi
current=$(readlink "$home/current" || true)
current=${current#trees/}
wanted=${WANTED:-$(in_repo rev-parse --quiet --verify refs/materia/newest || true)}
echo "current=$current"
echo "wanted=$wanted"
echo "switched_at=$(stat -c %Y "$home/current" 2>/dev/null || true)"
if [ "$current" != "$wanted" ] && in_repo merge-base --is-ancestor "$wanted" "$current"; then
    echo superseded=yes
fi
echo "refused=$(head -n 1 "$state/refused" 2>/dev/null || true)"
echo "pin=$(head -n 1 "$home/pin" 2>/dev/null || true)"
[ -z "$(find "$state/heartbeat.json" -mmin -15 2>/dev/null || true)" ] ||
    echo "heartbeat=$(tr -d '\\n' < "$state/heartbeat.json")"
"""
"""Prints facts about the host, NAME=VALUE; without WANTED it is the newest commit that the host has fetched."""


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
    commit: str = ""
    """The commit that must be in use; empty: the newest that the host has fetched."""
    prefix: str = ""
    alive_within_s: float = 1800.0
    pause_s: float = 10.0


@dataclass(frozen=True)
class Look:
    """What the host says of itself: what `supervisor.sh` left there, and the last heartbeat of 15 minutes."""

    service: str
    current: str
    wanted: str
    is_superseded: bool
    """Whether the commit in use contains the wanted one: a newer one was pushed meanwhile."""
    switched_at: int
    refused: str
    pin: str
    heartbeat: Heartbeat | None

    @property
    def refusal(self) -> str | None:
        """Why the wanted commit is not used and will not be without a change; None when it may still come."""
        if self.current == self.wanted or self.is_superseded or not self.wanted:
            return None
        commit, _, why = self.refused.partition(": ")
        if commit == self.wanted:
            return f"it refused {commit[:12]}: {why}"
        if self.pin and not self.wanted.startswith(self.pin):
            return f"it is pinned to {self.pin}; `rm /opt/materia/pin` there"
        return None

    @property
    def lack(self) -> str | None:
        """What is still missing to say that the wanted commit works there; None when a tick of it succeeded."""
        if self.service:
            return self.service
        if self.heartbeat is None:
            return "silent"
        if self.current != self.wanted and not self.is_superseded:
            return f"at {self.current or 'no commit'}, not at {self.wanted or 'any that it has fetched'}"
        succeeded_at = self.heartbeat.succeeded_at
        if succeeded_at is None or succeeded_at.timestamp() < self.switched_at:
            return f"at {self.current}, of which no tick has succeeded: {self.heartbeat.error or self.heartbeat.doing}"
        return f"failing: {self.heartbeat.error}" if self.heartbeat.is_failing else None


def plan_of(workers: WorkerSettings, environ: Mapping[str, str] = os.environ, commit: str = "") -> Plan:
    """As the environment says; raises SettingsError naming what is missing or wrong."""
    values = Values.from_environ(environ)
    given = values.given
    if missing := [name for name in ("MATERIA_REMOTE", "MATERIA_SUPERVISOR_SSH_PRIVATE_KEY") if name not in given]:
        raise SettingsError(f"`materia supervisor up` needs {' and '.join(missing)}; see docs/how-to/supervisor.md")
    return Plan(
        remote=given["MATERIA_REMOTE"],
        branch=values["MATERIA_BRANCH"],
        commit=commit,
        client_key=client_key_of(given["MATERIA_SUPERVISOR_SSH_PRIVATE_KEY"]),
        read_token=given.get("GITLAB_READ_TOKEN"),
        most_eur_per_hour=values["MATERIA_SUPERVISOR_MAX_EUR_PER_MONTH"] / HOURS_A_MONTH,
        locations=workers.locations,
        ssh_port=workers.ssh_port,
        ssh_from=workers.ssh_from,
    )


def up(provider: Provider, plan: Plan, report: Callable[[str], None]) -> str:
    """Create, bootstrap or only check the supervisor's host; returns the commit that it uses.

    Raises WorkerError when no machine is available, when the wanted commit was refused, or when no tick of it succeeds
    in time. Costs nothing where the host is there.
    """
    host_key = host_key_of(plan.client_key)
    instance = next((each for each in provider.list_instances() if each.name == NAME), None)
    if instance is None:
        instance = _create(provider, plan, host_key)
        eur_a_month = instance.eur_per_hour * HOURS_A_MONTH
        report(f"created {NAME}: {instance.type} at {instance.location}, {eur_a_month:.2f} EUR a month")
    elif instance.labels.host_key != host_key.short:
        raise HostKeyError(
            f"{NAME} was created with another MATERIA_SUPERVISOR_SSH_PRIVATE_KEY; give that one, or destroy the machine"
        )
    if instance.ip is None:
        raise WorkerError(f"{NAME} has no address; look into the provider's console")
    access = Access(instance.ip, plan.ssh_port, provider.user, plan.client_key, host_key.public)
    connection = wait_for_ssh(access, _ANSWERS_WITHIN_S)
    try:
        if service := _look(connection, plan).service:
            report(f"the supervisor is {service}: bootstrapping {instance.ip}")
            _bootstrap(connection, plan, report)
        return _alive(connection, plan, report)
    finally:
        connection.close()


def host_key_of(client_key: KeyPair) -> KeyPair:
    """The host key that follows from our own key (HKDF): always the same, and of no use to find ours from."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    ours = serialization.load_ssh_private_key(client_key.private.encode(), password=None)
    raw = ours.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    seed = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"materia supervisor host key").derive(raw)
    return pair_of(Ed25519PrivateKey.from_private_bytes(seed))


def _create(provider: Provider, plan: Plan, host_key: KeyPair) -> Instance:
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


def _look(connection: "Connection", plan: Plan) -> Look:
    lines: list[bytes] = []
    script = f"MATERIA_PREFIX={shlex.quote(plan.prefix)}\nWANTED={shlex.quote(plan.commit)}\n{_LOOK}"
    ended = run_script(connection, script, timeout_s=_LOOK_S, on_line=lines.append)
    facts = dict(line.decode(errors="replace").rstrip("\n").split("=", 1) for line in lines if b"=" in line)
    if ended.exit_code != 0 or "current" not in facts:
        raise WorkerError(f"could not read the state of {NAME}: {ended.complaint or 'no output'}; try again")
    switched_at = facts.get("switched_at", "")
    return Look(
        service=facts.get("service", ""),
        current=facts["current"],
        wanted=facts.get("wanted", ""),
        is_superseded="superseded" in facts,
        switched_at=int(switched_at) if switched_at.isdigit() else 0,
        refused=facts.get("refused", ""),
        pin=facts.get("pin", ""),
        heartbeat=parse_heartbeat(facts["heartbeat"]) if "heartbeat" in facts else None,
    )


def _bootstrap(connection: "Connection", plan: Plan, report: Callable[[str], None]) -> None:
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
        on_line=lambda line: report(line.decode(errors="replace")),
    )
    if ended.exit_code != 0:
        raise WorkerError(f"the bootstrap of {NAME} failed: {ended.complaint or 'without a word'}; it may be repeated")


def _alive(connection: "Connection", plan: Plan, report: Callable[[str], None]) -> str:
    """Wait until a tick of the wanted commit succeeded, which takes a new host some minutes."""
    deadline = time.monotonic() + plan.alive_within_s
    step = "log in and read /opt/materia/update.log and `journalctl -u materia-supervisor`"
    while (lack := (look := _look(connection, plan)).lack) is not None:
        if look.refusal:
            raise WorkerError(
                f"{NAME} does not use the commit that was pushed: {look.refusal}; fix it and push; {step}"
            )
        if time.monotonic() > deadline:
            raise WorkerError(f"{NAME} is {lack}, after {plan.alive_within_s:.0f} s; {step}")
        time.sleep(plan.pause_s)
    report(f"{NAME} is alive, at {look.current}")
    return look.current

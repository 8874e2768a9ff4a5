"""`materia supervisor up`: create one small always-on machine if it is missing, and bootstrap it once.

Afterwards the host updates itself, and this only checks that it runs the wanted commit and that a tick succeeded. No
state is kept here: the provider finds the machine by its name, and its host key is derived from our own SSH key, so
that the deploy job, which gets that key from Pulumi ESC, knows the only host key to accept.
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
from ops.workers.provider import Instance, Order, Provider, Size, select_offers
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
"""A time to live that never ends, so that the reaper never takes the supervisor for a leftover worker."""

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
"""The same in every label, so that two concurrent deploy jobs order the same machine."""

_SSH_TIMEOUT_S = 300.0
_BOOTSTRAP_TIMEOUT_S = 900.0
_STATE_TIMEOUT_S = 60.0

_STATE_SCRIPT = """
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
"""Prints the host's state as NAME=VALUE lines; without WANTED, the wanted commit is the newest one fetched."""


@dataclass(frozen=True)
class Plan:
    """The host that is wanted. `prefix` is the bootstrap's MATERIA_PREFIX: empty on a real host."""

    remote: str
    branch: str
    client_key: KeyPair
    read_token: str | None = field(repr=False)
    max_eur_per_hour: float
    locations: tuple[str, ...]
    ssh_port: int
    ssh_from: tuple[str, ...]
    commit: str = ""
    """The commit that must be in use; empty: the newest that the host has fetched."""
    prefix: str = ""
    alive_within_s: float = 1800.0
    pause_s: float = 10.0


@dataclass(frozen=True)
class HostState:
    """The host's state: what `supervisor.sh` recorded, and the last heartbeat if it is younger than 15 minutes."""

    service: str
    current: str
    wanted: str
    is_superseded: bool
    """Whether the commit in use contains the wanted one, because a newer one was pushed meanwhile."""
    switched_at: int
    refused: str
    pin: str
    heartbeat: Heartbeat | None

    @property
    def refusal(self) -> str | None:
        """Why the host will not use the wanted commit without a change; None if it still may."""
        if self.current == self.wanted or self.is_superseded or not self.wanted:
            return None
        commit, _, why = self.refused.partition(": ")
        if commit == self.wanted:
            return f"it refused {commit[:12]}: {why}"
        if self.pin and not self.wanted.startswith(self.pin):
            return f"it is pinned to {self.pin}; `rm /opt/materia/pin` there"
        return None

    @property
    def not_ready_reason(self) -> str | None:
        """Why the wanted commit does not work there yet; None after a tick of it succeeded."""
        if self.service:
            return self.service
        if self.heartbeat is None:
            return "silent"
        if self.current != self.wanted and not self.is_superseded:
            return f"at {self.current or 'no commit'}, not at {self.wanted or 'any that it has fetched'}"
        succeeded_at = self.heartbeat.succeeded_at
        if succeeded_at is None or succeeded_at.timestamp() < self.switched_at:
            reason = self.heartbeat.error or self.heartbeat.doing
            return f"at {self.current}, no tick of which has succeeded: {reason}"
        return f"failing: {self.heartbeat.error}" if self.heartbeat.is_failing else None


def plan_of(workers: WorkerSettings, environ: Mapping[str, str] = os.environ, commit: str = "") -> Plan:
    """Read the plan from the environment; raises SettingsError naming what is missing or wrong."""
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
        max_eur_per_hour=values["MATERIA_SUPERVISOR_MAX_EUR_PER_MONTH"] / HOURS_A_MONTH,
        locations=workers.locations,
        ssh_port=workers.ssh_port,
        ssh_from=workers.ssh_from,
    )


def up(provider: Provider, plan: Plan, report: Callable[[str], None]) -> str:
    """Create, bootstrap or only check the supervisor's host; returns the commit that it uses.

    Raises WorkerError if no machine is available, if the host refused the wanted commit, or if no tick of it succeeds
    in time. Costs nothing if the host exists.
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
        raise WorkerError(f"{NAME} has no address; check the provider's console")
    access = Access(instance.ip, plan.ssh_port, provider.user, plan.client_key, host_key.public)
    connection = wait_for_ssh(access, _SSH_TIMEOUT_S)
    try:
        if service := _read_state(connection, plan).service:
            report(f"the supervisor is {service}: bootstrapping {instance.ip}")
            _bootstrap(connection, plan, report)
        return _wait_until_ready(connection, plan, report)
    finally:
        connection.close()


def host_key_of(client_key: KeyPair) -> KeyPair:
    """Derive the host key from our own key (HKDF): always the same, and our key cannot be computed from it."""
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
    for offer in select_offers(provider.offers(), SIZE, plan.locations, plan.max_eur_per_hour):
        try:
            return provider.create_instance(order, offer)
        except NoCapacityError as error:
            refusals.append(str(error))
    raise NoCapacityError(f"no capacity: all {len(refusals)} offers failed (last: {refusals[-1]}); try again later")


def _read_state(connection: "Connection", plan: Plan) -> HostState:
    lines: list[bytes] = []
    script = f"MATERIA_PREFIX={shlex.quote(plan.prefix)}\nWANTED={shlex.quote(plan.commit)}\n{_STATE_SCRIPT}"
    ended = run_script(connection, script, timeout_s=_STATE_TIMEOUT_S, on_line=lines.append)
    facts = dict(line.decode(errors="replace").rstrip("\n").split("=", 1) for line in lines if b"=" in line)
    if ended.exit_code != 0 or "current" not in facts:
        raise WorkerError(f"could not read the state of {NAME}: {ended.stderr or 'no output'}; try again")
    switched_at = facts.get("switched_at", "")
    return HostState(
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
    """Bootstrap the host. All input goes through the channel's stdin, so that no argument contains the token."""
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
        timeout_s=_BOOTSTRAP_TIMEOUT_S,
        on_line=lambda line: report(line.decode(errors="replace")),
    )
    if ended.exit_code != 0:
        raise WorkerError(f"the bootstrap of {NAME} failed: {ended.stderr or 'no output'}; run the command again")


def _wait_until_ready(connection: "Connection", plan: Plan, report: Callable[[str], None]) -> str:
    """Wait until a tick of the wanted commit has succeeded; on a new host this takes some minutes."""
    deadline = time.monotonic() + plan.alive_within_s
    step = "log in and read /opt/materia/update.log and `journalctl -u materia-supervisor`"
    while (not_ready_reason := (state := _read_state(connection, plan)).not_ready_reason) is not None:
        if state.refusal:
            raise WorkerError(
                f"{NAME} does not use the commit that was pushed: {state.refusal}; fix it and push; {step}"
            )
        if time.monotonic() > deadline:
            raise WorkerError(f"{NAME} is {not_ready_reason}, after {plan.alive_within_s:.0f} s; {step}")
        time.sleep(plan.pause_s)
    report(f"{NAME} is alive, at {state.current}")
    return state.current

"""Random whole lives over real SSH, each with something going wrong somewhere: nothing is left, no secret is found."""

import random
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from dataflows.errors import MateriaError
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from ops.workers.connection import WorkerTimeouts
from ops.workers.hiring import reap
from tests.ops.workers.test_lifecycle import found_in_files, run
from tests.support.fake_cloud import Fault
from tests.support.object_server import CANARY
from tests.support.worker_world import WorkerWorld

LIVES = 8
PATIENCE = WorkerTimeouts(boot_s=2, code_s=30, reconnect_s=1, pause_s=0.05, quiet_s=5, stop_s=1, losses=3)
MIDDLES = ("", "sleep 0.5", "exit 3", "kill -KILL $$", "echo nonsense; exit 1", "sleep 0.3; kill -TERM $$")


def trouble(world: WorkerWorld, chance: random.Random, ended: threading.Event) -> None:
    """Cuts connections, or ends sshd or the machine itself, at some moment."""
    while not ended.wait(chance.uniform(0.05, 1.0)):
        for machine in list(world.machines.values())[-1:]:
            with suppress(FileNotFoundError, AttributeError):
                chance.choice([machine.cut, machine.cut, machine.cut, machine.refuse, machine.stop])()


@pytest.mark.parametrize("seed", range(LIVES))
def test_a_random_life_leaves_nothing(world: WorkerWorld, seed: int):
    chance = random.Random(seed)
    world.pipeline(chance.choice(MIDDLES))
    for _ in range(chance.randrange(4)):
        method, path = chance.choice([("POST", "/servers"), ("GET", "/servers"), ("DELETE", r"/servers/\d+")])
        code = chance.choice(["service_error", "resource_unavailable", "unavailable", None])
        world.hetzner.misbehave(
            Fault(method, path, code=code, cut=None if code else chance.choice(["before", "after"]))
        )
    ended = threading.Event()
    disturbing = threading.Thread(target=trouble, args=(world, chance, ended))
    if disturbed := seed % 2 == 1:
        disturbing.start()
    message = ""
    try:
        run(world, PATIENCE)
    except MateriaError as error:
        message = f"{error!r} {error.__notes__ if hasattr(error, '__notes__') else ''}"
    finally:
        ended.set()
        if disturbed:
            disturbing.join()
    journal = Journal(world.settings.journal_path)
    assert RunStatus.RUNNING not in {each.status for each in journal.runs()}
    assert (message == "") == (journal.runs()[-1].status is RunStatus.DONE)
    world.hetzner.behave()
    # What a provider in trouble kept, the next start destroys.
    deadline = time.monotonic() + 10
    reap(world.hire(), journal, datetime.now(UTC))
    while world.left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert world.left() == []
    assert CANARY not in message
    assert found_in_files(world.root, CANARY) == []

"""The supervisor's commands: for a due slot, for reaping and for the scrub, each in the environment it needs."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ops.config.schedule import Slot
from ops.config.settings import PROJECT_DIR, Settings
from ops.health.heartbeat import BEAT_EVERY_S
from ops.supervisor.child import ChildResult, run_child

_SUPERVISOR_ONLY = ("GITLAB_READ_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def command_of(slot: Slot, settings: Settings) -> list[str]:
    """The command that runs a slot's pipeline and records the slot as its trigger."""
    programs = Path(sys.executable).parent
    just = shutil.which("just", path=f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    materia = str(programs / "materia")
    if slot.pipeline != "run-all":
        run = [materia, "pipeline", "run", slot.pipeline]
    elif just and (PROJECT_DIR / "justfile").exists():
        run = [just, "run-all"]
    else:
        run = [materia, "run-all"]
    return [*_with_secrets(settings), *run, "--trigger", slot.trigger]


def reaping_command(settings: Settings) -> list[str]:
    """The command that destroys leftover workers; it does nothing if no provider's credentials are set."""
    materia = str(Path(sys.executable).parent / "materia")
    return [*_with_secrets(settings), materia, "worker", "reap", "--if-possible"]


def scrub_command(settings: Settings) -> list[str]:
    """The command that verifies all stored files, with the secrets of a run, so that it can read the bucket."""
    return [*_with_secrets(settings), str(Path(sys.executable).parent / "materia"), "scrub"]


def _with_secrets(settings: Settings) -> list[str]:
    environment = settings.supervision.esc_environment
    return ["esc", "run", environment, "--"] if environment else []


def environ_of(settings: Settings) -> Mapping[str, str]:
    """The environment of a run: this installation first in PATH, without the supervisor's own secrets."""
    inherited = {name: value for name, value in os.environ.items() if name not in _SUPERVISOR_ONLY}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # With these the justfile runs `materia` directly and uv does not check the environment again.
    return inherited | {
        "PATH": path,
        "VIRTUAL_ENV": str(PROJECT_DIR / ".venv"),
        "MATERIA_DATA_DIR": str(settings.data_dir),
    }


def run_logged(
    settings: Settings,
    name: str,
    command: Sequence[str],
    deadline_s: float,
    on_alive: Callable[[], None],
    held_fds: Sequence[int] = (),
) -> ChildResult:
    """Run a command with its output in `scheduled-NAME.log`; one that cannot start counts as ended."""
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    try:
        return run_child(
            command,
            cwd=PROJECT_DIR,
            environ=environ_of(settings),
            output_path=settings.log_dir / f"scheduled-{name}.log",
            deadline_s=deadline_s,
            on_alive=on_alive,
            alive_every_s=BEAT_EVERY_S,
            held_fds=held_fds,
        )
    except OSError as error:
        return ChildResult(-1, False, str(error))

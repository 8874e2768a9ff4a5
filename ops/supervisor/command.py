"""What a due slot is run with: `just run-all`, in the environment that Pulumi ESC fills where one is named."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from ops.schedule import Slot
from ops.settings import PROJECT_DIR, Settings

_FOR_THE_SUPERVISOR_ONLY = ("GITLAB_READ_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


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
    environment = settings.supervision.esc_environment
    with_secrets = ["esc", "run", environment, "--"] if environment else []
    return [*with_secrets, *run, "--trigger", slot.trigger]


def environ_of(settings: Settings) -> Mapping[str, str]:
    """The environment of a run: this very installation first, without what only the supervisor may know."""
    inherited = {name: value for name, value in os.environ.items() if name not in _FOR_THE_SUPERVISOR_ONLY}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # With these the justfile runs `materia` as it is, instead of having uv look at the environment again.
    return inherited | {
        "PATH": path,
        "VIRTUAL_ENV": str(PROJECT_DIR / ".venv"),
        "MATERIA_DATA_DIR": str(settings.data_dir),
    }

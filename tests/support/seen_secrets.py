"""Where every user of a machine would see a secret: in the arguments and the environment of its processes."""

import os
from collections.abc import Sequence
from pathlib import Path


def secrets_in_processes(secrets: Sequence[str], owner: int | None = None) -> set[str]:
    """The processes that show one, each with its arguments; not this one, nor their owner's.

    A process that the owner has just forked is itself, arguments and all, until it becomes what it was forked for.
    """
    found = set()
    own = _read(Path(f"/proc/{owner}/cmdline")) if owner else None
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) in (owner, os.getpid()):
            continue
        for what in ("cmdline", "environ"):
            # In this order: whose environment is read before it changes has the arguments that it had before.
            cmdline, content = _read(process / "cmdline"), _read(process / what)
            shows = any(secret.encode() in content for secret in secrets)
            if shows and (what == "cmdline" or cmdline != own):
                found.add(f"{cmdline.replace(bytes(1), b' ').decode(errors='replace')} {what}")
    return found


def _read(path: Path) -> bytes:
    """What a file of `/proc` holds; nothing where its process is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""

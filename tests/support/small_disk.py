"""A small file system of its own, to fill."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[bool]:
    """A file system of its own at `folder`; False where this machine does not let us mount one."""
    folder.mkdir(exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    mount = shutil.which("mount")
    mounted = mount is not None and subprocess.run([mount, *options], capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path) -> None:
    """Write to a file until the disk is full."""
    with path.open("wb", buffering=0) as file:
        while _is_written(file.fileno()):
            continue


def _is_written(handle: int) -> bool:
    try:
        return os.write(handle, bytes(4096)) > 0
    except OSError as error:
        assert error.errno == errno.ENOSPC
        return False

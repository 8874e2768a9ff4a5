"""System calls that change files, held by the kernel until somebody decides: let it happen, fail it, or kill.

A seccomp filter with a listener (seccomp_unotify(2), Linux 5.5): inherited by every thread and child, seen whoever
makes the call, Python, SQLite or DuckDB. So every durable step is found by itself; none is listed anywhere.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

_ALWAYS = {
    "x86_64": {
        1: "write", 18: "pwrite64", 20: "writev", 44: "sendto", 74: "fsync", 75: "fdatasync",
        76: "truncate", 77: "ftruncate", 82: "rename", 83: "mkdir", 84: "rmdir", 85: "creat", 86: "link", 87: "unlink",
        88: "symlink", 90: "chmod", 91: "fchmod", 258: "mkdirat", 263: "unlinkat", 264: "renameat", 265: "linkat",
        266: "symlinkat", 268: "fchmodat", 285: "fallocate", 296: "pwritev", 316: "renameat2", 326: "copy_file_range",
    },
    "aarch64": {
        34: "mkdirat", 35: "unlinkat", 36: "symlinkat", 37: "linkat", 38: "renameat", 45: "truncate", 46: "ftruncate",
        47: "fallocate", 52: "fchmod", 53: "fchmodat", 64: "write", 66: "writev", 68: "pwrite64", 70: "pwritev",
        82: "fsync", 83: "fdatasync", 206: "sendto", 276: "renameat2", 285: "copy_file_range",
    },
}[platform.machine()]  # fmt: skip
_OPENAT, _SECCOMP = {"x86_64": (257, 317), "aarch64": (56, 277)}[platform.machine()]
_CHANGING_FLAGS = os.O_CREAT | os.O_TRUNC

_BY_DESCRIPTOR = {
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "ftruncate",
    "fsync",
    "fdatasync",
    "fchmod",
    "fallocate",
    "sendto",
}
_PATH_ARGUMENTS = {
    "openat": (0, 1), "mkdirat": (0, 1), "unlinkat": (0, 1), "fchmodat": (0, 1), "renameat": (2, 3),
    "renameat2": (2, 3), "linkat": (2, 3), "symlinkat": (1, 2), "rename": (None, 1), "link": (None, 1),
    "symlink": (None, 1), "copy_file_range": (2, None),
}  # fmt: skip
"""Which arguments are the directory and the path of what changes; else there is a path alone, and it comes first."""

GROWING = {
    "write", "pwrite64", "writev", "pwritev", "openat", "creat", "mkdir", "mkdirat", "link", "linkat", "symlink",
    "symlinkat", "truncate", "ftruncate", "fallocate", "copy_file_range",
}  # fmt: skip
"""What a full disk refuses."""

_SET_MODE_FILTER, _NEW_LISTENER, _NO_NEW_PRIVS, _CONTINUE = 1, 8, 38, 1
_RECEIVE, _ANSWER = 0xC0502100, 0xC0182101
_NOTIFY, _ALLOW = 0x7FC00000, 0x7FFF0000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_AT_FDCWD = -100


@dataclass(frozen=True)
class Call:
    """A call that waits: what it is, what it changes, and which thread makes it."""

    id: int
    thread: int
    name: str
    target: str
    """A path, or `socket:[n]`; empty when the caller is gone."""


def hold_changing_calls() -> int:
    """From now on this process and its children wait before each changing call; returns the listener."""
    plain = sorted(_ALWAYS)
    tail = len(plain) + 1
    program = [(_LOAD, 0, 0, 0)]
    program += [(_EQUAL, tail - place + 3, 0, number) for place, number in enumerate(plain, 1)]
    program += [
        (_EQUAL, 0, 2, _OPENAT),
        (_LOAD, 0, 0, 16 + 2 * 8),  # the third argument's lower half: the flags
        (_ANY_BIT, 1, 0, _CHANGING_FLAGS),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOTIFY),
    ]
    code = b"".join(struct.pack("HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code)
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, described)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "this kernel cannot hold system calls for a listener")
    return int(listener)


def next_call(listener: int) -> Call | None:
    """The call that waits; None when its thread has died meanwhile."""
    notification = bytearray(80)
    try:
        fcntl.ioctl(listener, _RECEIVE, notification)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    number, thread, _, call, _, _, *arguments = struct.unpack("QIIiIQ6Q", notification)
    name = "openat" if call == _OPENAT else _ALWAYS[call]
    return Call(number, thread, name, _target(thread, name, arguments))


def allow(listener: int, call: Call) -> None:
    """Let the call happen."""
    _answer(listener, struct.pack("QqiI", call.id, 0, 0, _CONTINUE))


def refuse(listener: int, call: Call, number: int) -> None:
    """Let the call fail with an errno."""
    _answer(listener, struct.pack("QqiI", call.id, 0, -number, 0))


def process_of(thread: int) -> int | None:
    """The process that a thread belongs to; None when it is gone."""
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.partition("Tgid:")[2].split()[0])


def _answer(listener: int, answer: bytes) -> None:
    try:
        fcntl.ioctl(listener, _ANSWER, answer)
    except FileNotFoundError:
        return  # killed while it waited


def _target(thread: int, name: str, arguments: list[int]) -> str:
    try:
        if name in _BY_DESCRIPTOR:
            return _link(thread, f"fd/{_signed(arguments[0])}")
        folder, path = _PATH_ARGUMENTS.get(name, (None, 0))
        if path is None:
            return _link(thread, f"fd/{_signed(arguments[folder])}")
        text = _text(thread, arguments[path])
        if text.startswith("/"):
            return text
        handle = _AT_FDCWD if folder is None else _signed(arguments[folder])
        return str(Path(_link(thread, "cwd" if handle == _AT_FDCWD else f"fd/{handle}"), text))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _link(thread: int, name: str) -> str:
    return str(Path(f"/proc/{thread}", name).readlink())


def _text(thread: int, address: int) -> str:
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        data = os.pread(memory.fileno(), 4096 - address % 4096, address)
        if b"\0" not in data:
            data += os.pread(memory.fileno(), 4096, address + len(data))
    return os.fsdecode(data.partition(b"\0")[0])


def _signed(argument: int) -> int:
    return struct.unpack("i", struct.pack("I", argument & 0xFFFFFFFF))[0]

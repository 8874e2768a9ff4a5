"""Checks whether a DuckDB file is intact by its checksums, without DuckDB: cheap enough for every `status`.

A file is three headers of 4 KB and blocks of `block_bytes`; each of them begins with a checksum of what follows
(DuckDB's `storage/single_file_block_manager.cpp` and `common/checksum.cpp`). The newer of two database headers says
how many blocks there are and where the catalog and the list of free blocks begin. DuckDB writes the header first and
then cuts free blocks off the end of the file, so a file may have fewer blocks than its header says.
"""

import fcntl
import struct
import sys
import time
from collections.abc import Iterator
from functools import reduce
from operator import xor
from pathlib import Path
from typing import BinaryIO

_HEADER_BYTES = 4096
_BLOCKS_AT = 3 * _HEADER_BYTES
_MAGIC = b"DUCK"
_NO_BLOCK = (1 << 56) - 1
"""The low 56 bits of a pointer to metadata name its block; all ones: there is none."""
_LARGEST_BLOCK_BYTES = 1 << 18
_PARTS_A_BLOCK = 64
"""A block of metadata has so many parts; the high 8 bits of a pointer to metadata name the part."""
_NO_PART = (1 << 64) - 1

_FACTOR, _SEED, _MASK = 0xBF58476D1CE4E5B9, 5381, (1 << 64) - 1

_LOOKS, _PAUSE_S = 2, 0.02
"""A run may have closed the file between the look at its size and the one at its lock: a fault counts when it stays."""

_FLOCK = "hhqqi"
"""Linux's `struct flock`: type, whence, start, length, process."""


class _FaultError(Exception):
    """What is wrong with the file."""


def fault_of(path: Path, *, with_catalog: bool = True) -> str | None:
    """Why a database file cannot be whole, in a few words; None when its headers, its size and its catalog's first
    block are as DuckDB wrote them, or when there is no file. Raises OSError.

    Takes less than a millisecond, and some seven `with_catalog`.

    A file that a process has open for writing is not judged: a checkpoint changes size and headers one after the other.
    """
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_S)
        try:
            with path.open("rb") as file:
                block_bytes, _, catalog_block = _layout(file)
                if with_catalog and catalog_block is not None:
                    _check(_block(file, catalog_block, block_bytes), "the catalog")
            return None
        except FileNotFoundError:
            return None
        except _FaultError as error:
            fault = str(error)
            if _is_being_written(path):
                return None
    return fault


def damaged_blocks(path: Path) -> Iterator[int]:
    """The numbers of the blocks whose checksum is wrong; the caller has seen `fault_of` and keeps writers away.

    A block of zeros was never written, or was returned to the file system.
    """
    import numpy as np

    with path.open("rb") as file:
        block_bytes, blocks, _ = _layout(file)
        for number in range(blocks):
            words = np.frombuffer(_block(file, number, block_bytes), dtype="<u8")
            # With keepdims, as the types of numpy 2.5 do not know `reduce` to a scalar.
            (mixed,) = np.bitwise_xor.reduce(words[1:] * np.uint64(_FACTOR), keepdims=True)
            checksum = int(mixed) ^ _SEED
            if checksum != int(words[0]) and words.any():
                yield number


def _is_being_written(path: Path) -> bool:
    """Whether another process holds DuckDB's write lock; queries the holder without taking the lock."""
    if sys.platform != "linux":
        return False
    with path.open("rb") as file:
        asked = struct.pack(_FLOCK, fcntl.F_RDLCK, 0, 0, 0, 0)
        answer = fcntl.fcntl(file.fileno(), fcntl.F_GETLK, asked)
        lock_type: int = struct.unpack(_FLOCK, answer)[0]
        return lock_type == fcntl.F_WRLCK


def _layout(file: BinaryIO) -> tuple[int, int, int | None]:
    """The size of a block, how many there are, and the catalog's first; raises _FaultError."""
    size_bytes = file.seek(0, 2)
    if size_bytes < _BLOCKS_AT:
        raise _FaultError("it is empty" if not size_bytes else f"truncated: it has only {size_bytes:,} bytes")
    file.seek(0)
    main, *databases = (file.read(_HEADER_BYTES) for _ in range(3))
    if main[8:12] != _MAGIC:
        raise _FaultError("it does not begin as a DuckDB file does")
    for header in (main, *databases):
        _check(header, "the header")
    newest = max(databases, key=lambda header: struct.unpack_from("<Q", header, 8))
    _, catalog, free_list, blocks, block_bytes = struct.unpack_from("<5Q", newest, 8)
    if not 0 < block_bytes <= _LARGEST_BLOCK_BYTES:
        raise _FaultError(f"its header names blocks of {block_bytes:,} bytes")
    whole_blocks = (size_bytes - _BLOCKS_AT) // block_bytes
    if whole_blocks < blocks and not {*range(whole_blocks, blocks)} <= _free_blocks(file, free_list, block_bytes):
        wanted_bytes = _BLOCKS_AT + blocks * block_bytes
        raise _FaultError(f"truncated: it has {size_bytes:,} of at least {wanted_bytes:,} bytes")
    catalog_block = catalog & _NO_BLOCK
    return block_bytes, min(blocks, whole_blocks), None if catalog_block == _NO_BLOCK else catalog_block


def _free_blocks(file: BinaryIO, pointer: int, block_bytes: int) -> set[int]:
    """The numbers in the list of free blocks; raises _FaultError."""
    part_bytes = (block_bytes - 8) // _PARTS_A_BLOCK // 8 * 8
    words: list[int] = []
    while pointer != _NO_PART:
        block = _block(file, pointer & _NO_BLOCK, block_bytes)
        _check(block, "the list of free blocks")
        pointer, *part = struct.unpack_from(f"<{part_bytes // 8}Q", block, 8 + (pointer >> 56) * part_bytes)
        words += part
    return set(words[1 : 1 + words[0]]) if words else set()


def _block(file: BinaryIO, number: int, block_bytes: int) -> bytes:
    file.seek(_BLOCKS_AT + number * block_bytes)
    data = file.read(block_bytes)
    if len(data) < block_bytes:
        raise _FaultError(f"truncated: block {number} is cut short")
    return data


def _check(data: bytes, what: str) -> None:
    checksum, *words = struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8])
    if reduce(xor, map(_FACTOR.__mul__, words), _SEED) & _MASK != checksum:
        raise _FaultError(f"{what} has a wrong checksum")

"""Download files from object storage in ranges; resume a killed download; a file is complete and verified or absent.

    .NAME.SHA256.part    as long as the file will be, with holes
    .NAME.SHA256.have    a byte for each part that has arrived

The sha256 in the names ties them to one version of the file.
"""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dataflows.errors import ObjectDamagedError, ObjectUnavailableError
from dataflows.files import move_durably, require_space
from dataflows.objects.store import ObjectStore

_CHUNK_BYTES = 1 << 20
_SPARE_BYTES = 64 << 20


class _BrokenOffError(ObjectUnavailableError):
    """The connection broke in the middle of a body, which botocore does not retry."""


@dataclass(frozen=True)
class _Part:
    start: int
    end: int
    """Exclusive."""
    index: int


def download(store: ObjectStore, key: str, path: Path, *, size_bytes: int, sha256: str) -> None:
    """Download an object of known size and sha256 to `path`, which appears complete and verified.

    Raises ObjectMissingError, ObjectUnavailableError (what arrived is kept for the next call) or
    ObjectDamagedError (nothing is kept). Memory does not grow with the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part_path = path.with_name(f".{path.name}.{sha256[:16]}.part")
    have_path = part_path.with_suffix(".have")
    _delete_other_parts(path, keep=(part_path, have_path))
    resumed = _is_begun(part_path, have_path, size_bytes)
    if not resumed:
        require_space(path.parent, size_bytes + _SPARE_BYTES, f"downloading {store.bucket.url(key)}")
        _begin(part_path, have_path, size_bytes, store.limits.part_bytes)
    arrived = _fetch(store, key, part_path, have_path, size_bytes)
    have_path.unlink()
    if arrived == sha256:
        move_durably(part_path, path)
        return
    part_path.unlink()
    if not resumed:
        raise ObjectDamagedError(
            f"{store.bucket.url(key)} has the sha256 {arrived}, not the recorded {sha256}; "
            "`materia landing verify` tells what else is damaged"
        )
    # After a power cut the record of a part may exist without its bytes: download again from the start.
    download(store, key, path, size_bytes=size_bytes, sha256=sha256)


def _delete_other_parts(path: Path, keep: tuple[Path, Path]) -> None:
    """Delete partial downloads of other versions of this file."""
    for ending in ("part", "have"):
        for left in path.parent.glob(f".{path.name}.*.{ending}"):
            if left not in keep:
                left.unlink()


def _is_begun(part_path: Path, have_path: Path, size_bytes: int) -> bool:
    return have_path.is_file() and part_path.is_file() and part_path.stat().st_size == size_bytes


def _begin(part_path: Path, have_path: Path, size_bytes: int, part_bytes: int) -> None:
    have_path.unlink(missing_ok=True)
    with part_path.open("wb") as file:
        file.truncate(size_bytes)
    have_path.write_bytes(bytes(-(-size_bytes // part_bytes)))


def _fetch(store: ObjectStore, key: str, part_path: Path, have_path: Path, size_bytes: int) -> str:
    """Download the missing parts, a few at a time; return the sha256 of the whole file.

    The parts are hashed in order while later ones arrive: after the last byte there is little left to do.
    """
    have = have_path.read_bytes()
    part_bytes = store.limits.part_bytes
    parts = [
        _Part(index * part_bytes, min((index + 1) * part_bytes, size_bytes), index)
        for index in range(-(-size_bytes // part_bytes))
    ]
    target, notes = os.open(part_path, os.O_RDWR), os.open(have_path, os.O_RDWR)
    pool = ThreadPoolExecutor(store.limits.parallel, "download")

    def fetch(part: _Part) -> None:
        _fetch_with_retries(store, key, target, part)
        os.pwrite(notes, b"\1", part.index)

    try:
        under_way = {
            part.index: pool.submit(fetch, part) for part in parts if have[part.index : part.index + 1] != b"\1"
        }
        digest = hashlib.sha256()
        for part in parts:
            if part.index in under_way:
                under_way[part.index].result()
            _hash(digest, target, part)
        return digest.hexdigest()
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(target)
        os.close(notes)


def _hash(digest: "hashlib._Hash", source: int, part: _Part) -> None:
    """Hash a part as the file holds it, not as it arrived: the file is what will be read."""
    for place in range(part.start, part.end, _CHUNK_BYTES):
        digest.update(os.pread(source, min(_CHUNK_BYTES, part.end - place), place))


def _fetch_with_retries(store: ObjectStore, key: str, target: int, part: _Part) -> None:
    """Download a part; retry when the connection breaks in the middle of it."""
    for attempt in range(store.limits.attempts):
        try:
            return _receive(store, key, target, part)
        except _BrokenOffError:
            if attempt == store.limits.attempts - 1:
                raise
            time.sleep(min(0.2 * 2**attempt, 5.0))


def _receive(store: ObjectStore, key: str, target: int, part: _Part) -> None:
    wanted = f"bytes={part.start}-{part.end - 1}"
    with store.translate_errors("download", key):
        answer = store.client.get_object(Bucket=store.bucket.name, Key=key, Range=wanted)
    with closing(answer["Body"]) as body:
        if answer["ContentLength"] != part.end - part.start:
            raise ObjectDamagedError(
                f"{store.bucket.url(key)} has {answer['ContentLength']} bytes where {wanted} was asked for; "
                "it is not the file that was written down"
            )
        place = part.start
        try:
            with store.translate_errors("download", key):
                # botocore limits the body to its Content-Length.
                for chunk in body.iter_chunks(_CHUNK_BYTES):
                    place += os.pwrite(target, chunk, place)
        except ObjectUnavailableError as error:
            raise _BrokenOffError(str(error)) from error

"""Upload and download whole files. An object or a file appears complete and verified, or not at all.

A transfer is one request. An upload that breaks is sent again from its beginning. A download continues at the byte
where it broke while the process lives; the next process starts it again.
"""

import hashlib
import time
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from dataflows.errors import LostRaceError, ObjectDamagedError, ObjectStoreError
from dataflows.files import move_durably, require_space
from dataflows.objects.store import ObjectStore

MAX_UPLOAD_BYTES = (5 << 30) - (5 << 20)
"""The largest object that R2 accepts in one request (its limits page); S3 accepts 5 GiB."""

_CHUNK_BYTES = 1 << 20
_SPARE_BYTES = 64 << 20


def upload(store: ObjectStore, path: Path, key: str) -> bool:
    """Upload a file to `key`. Return True when this call wrote it, False when the same bytes are there already.

    Raises LostRaceError when another object is there; it is not changed. Memory does not grow with the file.
    """
    if (size_bytes := path.stat().st_size) > MAX_UPLOAD_BYTES:
        raise ObjectStoreError(
            f"{size_bytes:,} bytes are more than one upload may have ({MAX_UPLOAD_BYTES:,}): {path}; for a lakehouse "
            "of that size set MATERIA_GATEWAY=ducklake"
        )
    with path.open("rb") as file:
        # Look first: a refused upload would send the whole file before it is refused.
        if store.head(key) is None and store.put_if_absent(key, file):
            return True
        if _object_md5(store, key) != _md5(file):
            raise LostRaceError(f"{store.bucket.url(key)} is another file than {path}; neither was changed")
    return False


def download(store: ObjectStore, key: str, path: Path, *, size_bytes: int, sha256: str) -> None:
    """Download an object of known size and sha256 to `path`. Memory does not grow with the file.

    Raises ObjectMissingError, ObjectDamagedError when the object has another size or sha256, or ObjectStoreError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    require_space(path.parent, size_bytes + _SPARE_BYTES, f"downloading {store.bucket.url(key)}")
    # A fixed name: the next download overwrites what a killed one left.
    arriving = path.with_name(f".{path.name}.arriving")
    try:
        with arriving.open("wb") as file:
            found = _receive(store, key, file, size_bytes)
        if found != sha256:
            raise ObjectDamagedError(
                f"{store.bucket.url(key)} has the sha256 {found}, not the recorded {sha256}; "
                "`materia scrub` lists what else is damaged"
            )
        move_durably(arriving, path)
    finally:
        arriving.unlink(missing_ok=True)


def _receive(store: ObjectStore, key: str, file: BinaryIO, size_bytes: int) -> str:
    """Write an object to a file; return the sha256 of what arrived. Continue where a connection breaks."""
    from botocore.exceptions import BotoCoreError

    digest = hashlib.sha256()
    for attempt in range(1, store.limits.attempts + 1):
        with store.translate_errors("download", key):
            body = _open(store, key, file.tell(), size_bytes)
            try:
                with closing(body):
                    # botocore limits the body to its Content-Length, and does not retry it.
                    for chunk in body.iter_chunks(_CHUNK_BYTES):
                        file.write(chunk)
                        digest.update(chunk)
                return digest.hexdigest()
            except (BotoCoreError, ConnectionError, TimeoutError):
                if attempt == store.limits.attempts:
                    raise
        time.sleep(min(0.1 * 2**attempt, 5.0))
    raise AssertionError("the last attempt returns or raises")


def _open(store: ObjectStore, key: str, start_bytes: int, size_bytes: int) -> Any:
    """The body of an object from `start_bytes` on. Raises ObjectDamagedError unless it ends at `size_bytes`."""
    part = {"Range": f"bytes={start_bytes}-"} if start_bytes else {}
    answer = store.client.get_object(Bucket=store.bucket.name, Key=key, **part)
    if start_bytes + answer["ContentLength"] != size_bytes:
        answer["Body"].close()
        raise ObjectDamagedError(
            f"{store.bucket.url(key)} has {start_bytes + answer['ContentLength']:,} bytes, not the recorded "
            f"{size_bytes:,}; `materia scrub` lists what else is damaged"
        )
    return answer["Body"]


def _object_md5(store: ObjectStore, key: str) -> str | None:
    """The MD5 of an object; None when there is none. The ETag is the MD5 unless the object was uploaded in parts."""
    found = store.head(key)
    if found is None:
        return None
    if found.content_md5 is not None:
        return found.content_md5
    digest = hashlib.md5(usedforsecurity=False)
    with store.translate_errors("read", key), closing(_open(store, key, 0, found.size_bytes)) as body:
        for chunk in body.iter_chunks(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _md5(file: BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "md5").hexdigest()

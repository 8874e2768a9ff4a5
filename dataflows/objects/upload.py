"""Upload files to object storage in parts; resume a killed upload; never overwrite another object.

An object appears whole or not at all: parts are invisible until they are completed. Each part travels with its
MD5, which the store checks; the ETag of the whole is computed here and compared.
"""

import base64
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict

from dataflows.errors import LostRaceError, ObjectDamagedError, ObjectMissingError
from dataflows.objects.store import ObjectStore

UNFINISHED_FOR = timedelta(days=1)
"""Age after which an unfinished upload is abandoned (R2 itself waits a week)."""

_MAX_PARTS = 10_000
_UPLOADS_LOOKED_AT = 20
_ROUNDS = 3


class _Upload(TypedDict):
    """The fields used of an entry of ListMultipartUploads."""

    Key: str
    UploadId: str
    Initiated: datetime


@dataclass(frozen=True)
class _Plan:
    """A file cut into parts; the same file is always cut in the same way."""

    path: Path
    size_bytes: int
    part_bytes: int

    @property
    def part_count(self) -> int:
        return -(-self.size_bytes // self.part_bytes)

    def part(self, number: int) -> bytes:
        """Part `number`, from 1."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(handle, self.part_bytes, (number - 1) * self.part_bytes)
        finally:
            os.close(handle)


def upload(store: ObjectStore, path: Path, key: str) -> bool:
    """Upload a file to `key`. Return True when this call did it, False when the same bytes were there before.

    Raises LostRaceError when another object is there, and leaves it alone. Holds a few parts in memory, whatever
    the file's size. What a broken upload sent is used by the next one.
    """
    plan = _plan(path, store.limits.part_bytes)
    if plan.part_count <= 1:
        return _put_whole(store, plan, key)
    for _ in range(_ROUNDS):
        if store.head(key) is not None:
            return _same_or_lost(store, plan, key)
        try:
            _put_parts(store, plan, key)
        except (LostRaceError, ObjectMissingError):
            continue  # another process completed or aborted this upload: retry
        return True
    return _same_or_lost(store, plan, key)


def file_etag(path: Path, part_bytes: int) -> str:
    """The ETag that S3 and R2 give to a file uploaded in parts of this size (for R2: its page on multipart objects)."""
    plan = _plan(path, part_bytes)
    if plan.part_count <= 1:
        return _md5(path.read_bytes()).hex()
    return _whole_etag([_md5(plan.part(number)) for number in range(1, plan.part_count + 1)])


def clean_unfinished(store: ObjectStore, prefix: str, older_than: timedelta = UNFINISHED_FOR) -> int:
    """Delete the parts of abandoned uploads; return the number of uploads."""
    stale = datetime.now(UTC) - older_than
    uploads = [upload for upload in _unfinished(store, prefix) if upload["Initiated"] <= stale]
    for each in uploads:
        _abort(store, each["Key"], each["UploadId"])
    return len(uploads)


def _plan(path: Path, part_bytes: int) -> _Plan:
    size_bytes = path.stat().st_size
    least_bytes = -(-size_bytes // _MAX_PARTS)
    # Whole multiples, so that files of nearly the same size are cut alike.
    return _Plan(path, size_bytes, part_bytes * max(1, -(-least_bytes // part_bytes)))


def _put_whole(store: ObjectStore, plan: _Plan, key: str) -> bool:
    return store.put_if_absent(key, plan.path.read_bytes()) or _same_or_lost(store, plan, key)


def _same_or_lost(store: ObjectStore, plan: _Plan, key: str) -> bool:
    there = store.head(key)
    if there is None or there.etag != file_etag(plan.path, store.limits.part_bytes):
        raise LostRaceError(f"{store.bucket.url(key)} is another file than {plan.path}; neither was changed")
    return False


def _whole_etag(digests: list[bytes]) -> str:
    return f"{_md5(b''.join(digests)).hex()}-{len(digests)}"


def _put_parts(store: ObjectStore, plan: _Plan, key: str) -> None:
    """Upload in parts and complete; raise ObjectDamagedError when the result differs from what was sent."""
    upload_id, held = _resumable(store, plan, key) or (_begin(store, key), {})

    def put(number: int) -> bytes:
        if number in held:
            return bytes.fromhex(held[number])
        data = plan.part(number)
        digest = _md5(data)
        with store.translate_errors("upload", key):
            store.client.upload_part(
                Bucket=store.bucket.name,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=data,
                ContentMD5=base64.b64encode(digest).decode(),
            )
        return digest

    pool = ThreadPoolExecutor(store.limits.parallel, "upload")
    try:
        digests = list(pool.map(put, range(1, plan.part_count + 1)))
    finally:
        pool.shutdown(cancel_futures=True)
    parts = [{"PartNumber": number, "ETag": f'"{digest.hex()}"'} for number, digest in enumerate(digests, 1)]
    try:
        with store.translate_errors("complete the upload of", key):
            answer = store.client.complete_multipart_upload(
                Bucket=store.bucket.name,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                IfNoneMatch="*",
            )
    except LostRaceError:
        _abort(store, key, upload_id)
        raise
    arrived, expected = str(answer["ETag"]).strip('"'), _whole_etag(digests)
    if arrived != expected:
        raise ObjectDamagedError(
            f"{store.bucket.url(key)} arrived as {arrived} instead of {expected}; delete it and run again"
        )


def _begin(store: ObjectStore, key: str) -> str:
    with store.translate_errors("begin an upload to", key):
        return str(store.client.create_multipart_upload(Bucket=store.bucket.name, Key=key)["UploadId"])


def _resumable(store: ObjectStore, plan: _Plan, key: str) -> tuple[str, dict[int, str]] | None:
    """Find the unfinished upload of this file with the most parts; return it with the ETags of its parts."""
    found = []
    for each in _unfinished(store, key)[-_UPLOADS_LOOKED_AT:]:
        held = _parts(store, key, each["UploadId"]) if each["Key"] == key else {}
        if held and all(_md5(plan.part(number)).hex() == etag for number, etag in held.items()):
            found.append((each["UploadId"], held))
    return max(found, key=lambda upload: len(upload[1]), default=None)


def _parts(store: ObjectStore, key: str, upload_id: str) -> dict[int, str]:
    pages = store.client.get_paginator("list_parts").paginate(Bucket=store.bucket.name, Key=key, UploadId=upload_id)
    try:
        with store.translate_errors("list the parts of", key):
            return {part["PartNumber"]: part["ETag"].strip('"') for page in pages for part in page.get("Parts", ())}
    except ObjectMissingError:
        return {}  # completed or cleaned up since the listing


def _unfinished(store: ObjectStore, prefix: str) -> list[_Upload]:
    """Running and abandoned uploads, oldest first."""
    pages = store.client.get_paginator("list_multipart_uploads").paginate(Bucket=store.bucket.name, Prefix=prefix)
    with store.translate_errors("list uploads to", prefix):
        uploads = [upload for page in pages for upload in page.get("Uploads", ())]
    return sorted(uploads, key=lambda upload: upload["Initiated"])


def _abort(store: ObjectStore, key: str, upload_id: str) -> None:
    try:
        with store.translate_errors("clean up an upload to", key):
            store.client.abort_multipart_upload(Bucket=store.bucket.name, Key=key, UploadId=upload_id)
    except ObjectMissingError:
        return  # completed or cleaned up by somebody else


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()

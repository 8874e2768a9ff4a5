"""Object storage client: small objects, conditional writes, listings, typed errors.

A thin layer on boto3 for Cloudflare R2 and other S3 services. `objects.transfer` uploads and downloads files. botocore
retries each request a few times: after connection errors, 409, 429, 5xx, and answers of a proxy instead of object
storage. boto3 is imported when a store is created.
"""

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import BufferedReader, BytesIO
from typing import Any

from dataflows.errors import LostRaceError, ObjectDamagedError, ObjectStoreError, SettingsError
from dataflows.objects.answers import check_answers
from dataflows.objects.failures import translate_errors

MAX_DOCUMENT_BYTES = 1 << 20
"""The largest small object. Markers, sidecars and records have about a kilobyte."""


@dataclass(frozen=True)
class Bucket:
    """A bucket and its credentials. The `repr` contains no secret."""

    endpoint: str
    name: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"


@dataclass(frozen=True)
class Limits:
    """Retries, timeouts and page size of a client."""

    attempts: int = 5
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    """Timeout for the next bytes."""
    page_size: int = 1000


@dataclass(frozen=True)
class StoredObject:
    """An object in a listing."""

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime

    @property
    def content_md5(self) -> str | None:
        """The MD5 of its bytes; None for an object that was uploaded in parts, whose ETag is another digest."""
        return None if "-" in self.etag else self.etag


@dataclass(frozen=True)
class Document:
    """The bytes and the ETag of a small object."""

    data: bytes = field(repr=False)
    etag: str


class ObjectStore:
    """Client of one bucket. Safe for several threads."""

    def __init__(self, bucket: Bucket, limits: Limits | None = None) -> None:
        self.bucket = bucket
        self.limits = limits or Limits()
        self.client = _client(bucket, self.limits)

    def read(self, key: str) -> Document | None:
        """Read a small object; None when there is none."""
        with self.translate_errors("read", key):
            try:
                answer = self.client.get_object(Bucket=self.bucket.name, Key=key)
            except self.client.exceptions.NoSuchKey:
                return None
            with closing(answer["Body"]) as body:
                data = body.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise ObjectStoreError(f"{self.bucket.url(key)} is longer than {MAX_DOCUMENT_BYTES:,} bytes; move it away")
        document = Document(data, _plain(answer["ETag"]))
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if document.etag != md5:
            raise ObjectDamagedError(
                f"the MD5 is {md5} and the ETag is {document.etag}: {self.bucket.url(key)}; run again"
            )
        return document

    def head(self, key: str) -> StoredObject | None:
        """Size, ETag and date of an object; None when there is none."""
        with self.translate_errors("look at", key):
            try:
                answer = self.client.head_object(Bucket=self.bucket.name, Key=key)
            except self.client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                if not error.response["Error"]["Code"].isdigit():
                    raise
                # An answer to HEAD has no body that names the error; the answer to GET has one.
                self.client.get_object(Bucket=self.bucket.name, Key=key, Range="bytes=0-0")["Body"].close()
                raise
        return StoredObject(key, answer["ContentLength"], _plain(answer["ETag"]), answer["LastModified"])

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object whose key begins with `prefix`, ordered by key, page by page."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket.name, Prefix=prefix, PaginationConfig={"PageSize": self.limits.page_size}
        )
        with self.translate_errors("list", prefix):
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield StoredObject(entry["Key"], entry["Size"], _plain(entry["ETag"]), entry["LastModified"])

    def read_range(self, key: str, start_bytes: int, count: int) -> bytes:
        """Read up to `count` bytes of an object from `start_bytes` on."""
        with self.translate_errors("read", key):
            part = f"bytes={start_bytes}-{start_bytes + count - 1}"
            answer = self.client.get_object(Bucket=self.bucket.name, Key=key, Range=part)
            with closing(answer["Body"]) as body:
                data: bytes = body.read(count)
        return data

    def put_if_absent(self, key: str, data: bytes | BufferedReader) -> bool:
        """Write an object unless there is one; False when there is one, also one with the same bytes.

        False does not mean that another machine wrote it: the answer of a first attempt may have been lost.
        """
        try:
            self._put(key, BytesIO(data) if isinstance(data, bytes) else data, IfNoneMatch="*")
        except LostRaceError:
            return False
        return True

    def replace(self, key: str, data: bytes, etag: str) -> None:
        """Replace the small object that has this ETag. Raises LostRaceError when it has changed."""
        try:
            self._put(key, BytesIO(data), IfMatch=f'"{etag}"')
        except LostRaceError:
            there = self.read(key)
            if there is None or there.data != data:
                raise

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        with self.translate_errors("delete", key):
            self.client.delete_object(Bucket=self.bucket.name, Key=key)

    @contextmanager
    def translate_errors(self, action: str, key: str) -> Iterator[None]:
        """Raise boto3 errors of the enclosed block as our own, which name the object and the setting to check."""
        with translate_errors(action, self.bucket.url(key), self.bucket.endpoint, self.limits.attempts):
            yield

    def _put(self, key: str, data: BufferedReader | BytesIO, **condition: str) -> None:
        md5 = hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False)).digest()
        data.seek(0)
        with self.translate_errors("write", key):
            answer = self.client.put_object(
                Bucket=self.bucket.name, Key=key, Body=data, ContentMD5=base64.b64encode(md5).decode(), **condition
            )
        if _plain(answer["ETag"]) != md5.hex():
            raise ObjectDamagedError(
                f"the object has the MD5 {_plain(answer['ETag'])}, not {md5.hex()}: {self.bucket.url(key)}; "
                "delete it and run again"
            )


def _plain(etag: str) -> str:
    return etag.strip('"')


def _client(bucket: Bucket, limits: Limits) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.session import Session

    # Ignore this machine's AWS profile and configuration: they belong to something else.
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    session = boto3.Session(botocore_session=Session(session_vars={"profile": (None, None, None, None), **files}))
    config = Config(
        signature_version="s3v4",
        connect_timeout=limits.connect_timeout_s,
        read_timeout=limits.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": limits.attempts},
        # R2 has no trailing checksums; our own Content-MD5, ETags and sha256 check every byte.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    try:
        client = session.client(
            "s3",
            endpoint_url=bucket.endpoint,
            region_name="auto",
            aws_access_key_id=bucket.access_key,
            aws_secret_access_key=bucket.secret_key,
            config=config,
        )
    except ValueError as error:
        raise SettingsError(f"R2_ENDPOINT is not a URL: {bucket.endpoint!r} ({error})") from error
    check_answers(client)
    return client

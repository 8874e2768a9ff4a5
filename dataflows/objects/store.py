"""Object storage: small objects, conditions on writing them, listings, and errors that say where to look.

A thin layer on boto3 for Cloudflare R2 and whatever else speaks S3. Whole files travel in `object_transfer`.
Retries (connection errors, 409, 429, 5xx, and answers from a proxy instead of object storage) are botocore's, few and
bounded. boto3 is imported when a store is created.
"""

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dataflows.errors import LostRaceError, ObjectDamagedError, ObjectStoreError, SettingsError
from dataflows.objects.answers import check_answers
from dataflows.objects.failures import translate_errors

MAX_DOCUMENT_BYTES = 1 << 20
"""Markers and pointers are a kilobyte; anything longer is not one."""


@dataclass(frozen=True)
class Bucket:
    """A bucket and the right to use it. Its `repr` shows no secret."""

    endpoint: str
    name: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"


@dataclass(frozen=True)
class Limits:
    """How long, how often, how much at once."""

    attempts: int = 5
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    part_bytes: int = 8 << 20
    """R2 wants parts of equal size, of at least 5 MiB."""
    parallel: int = 8
    """Parts under way at a time; each holds at most one part in memory."""
    page_size: int = 1000


@dataclass(frozen=True)
class StoredObject:
    """An object as the store describes it."""

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime

    @property
    def content_md5(self) -> str | None:
        """The MD5 of its bytes, where the ETag tells: not for an object that was uploaded in parts."""
        return None if "-" in self.etag else self.etag


@dataclass(frozen=True)
class Document:
    """A small object, whole."""

    data: bytes = field(repr=False)
    etag: str


class ObjectStore:
    """One bucket. May be used from several threads."""

    def __init__(self, bucket: Bucket, limits: Limits | None = None) -> None:
        self.bucket = bucket
        self.limits = limits or Limits()
        self.client = _client(bucket, self.limits)

    def read(self, key: str) -> Document | None:
        """A small object; None when there is none."""
        with self.translate_errors("read", key):
            try:
                answer = self.client.get_object(Bucket=self.bucket.name, Key=key)
            except self.client.exceptions.NoSuchKey:
                return None
            with closing(answer["Body"]) as body:
                data = body.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise ObjectStoreError(f"{self.bucket.url(key)} is longer than any of Materia's documents; move it away")
        document = Document(data, _plain(answer["ETag"]))
        if document.etag != _md5(data).hex():
            raise ObjectDamagedError(
                f"{self.bucket.url(key)} has the MD5 {_md5(data).hex()}, and its ETag says {document.etag}; run again"
            )
        return document

    def head(self, key: str) -> StoredObject | None:
        """What is known of an object; None when there is none."""
        with self.translate_errors("look at", key):
            try:
                answer = self.client.head_object(Bucket=self.bucket.name, Key=key)
            except self.client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                if not error.response["Error"]["Code"].isdigit():
                    raise
                # An answer to HEAD has no body to say what is wrong; the same question as GET does.
                self.client.get_object(Bucket=self.bucket.name, Key=key, Range="bytes=0-0")["Body"].close()
                raise
        return StoredObject(key, answer["ContentLength"], _plain(answer["ETag"]), answer["LastModified"])

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key begins with `prefix`, in the order of keys, fetched page by page."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket.name, Prefix=prefix, PaginationConfig={"PageSize": self.limits.page_size}
        )
        with self.translate_errors("list", prefix):
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield StoredObject(entry["Key"], entry["Size"], _plain(entry["ETag"]), entry["LastModified"])

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write a small object unless there is one; False when there is, whatever it holds.

        A retry whose first attempt arrived unnoticed meets itself: compare before calling it another's.
        """
        try:
            self._put(key, data, IfNoneMatch="*")
        except LostRaceError:
            return False
        return True

    def replace(self, key: str, data: bytes, etag: str) -> None:
        """Write a small object in the place of the one with this ETag; LostRaceError when that has changed."""
        try:
            self._put(key, data, IfMatch=f'"{etag}"')
        except LostRaceError:
            there = self.read(key)
            if there is None or there.data != data:
                raise

    def delete(self, key: str) -> None:
        """Remove an object; it is no error when there is none."""
        with self.translate_errors("delete", key):
            self.client.delete_object(Bucket=self.bucket.name, Key=key)

    @contextmanager
    def translate_errors(self, action: str, key: str) -> Iterator[None]:
        """Turn what boto3 raises into our errors, which name the object and the setting to look at."""
        with translate_errors(action, self.bucket.url(key), self.bucket.endpoint, self.limits.attempts):
            yield

    def _put(self, key: str, data: bytes, **condition: str) -> None:
        md5 = _md5(data)
        with self.translate_errors("write", key):
            answer = self.client.put_object(
                Bucket=self.bucket.name, Key=key, Body=data, ContentMD5=base64.b64encode(md5).decode(), **condition
            )
        if _plain(answer["ETag"]) != md5.hex():
            raise ObjectDamagedError(
                f"{self.bucket.url(key)} arrived as {_plain(answer['ETag'])} instead of {md5.hex()}; "
                "delete it and run again"
            )


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _plain(etag: str) -> str:
    return etag.strip('"')


def _client(bucket: Bucket, limits: Limits) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.session import Session

    # What this machine's AWS profile or configuration says is meant for something else.
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    session = boto3.Session(botocore_session=Session(session_vars={"profile": (None, None, None, None), **files}))
    config = Config(
        signature_version="s3v4",
        connect_timeout=limits.connect_timeout_s,
        read_timeout=limits.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": limits.attempts},
        max_pool_connections=limits.parallel * 2 + 2,
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
        raise SettingsError(f"R2_ENDPOINT={bucket.endpoint!r} is not an address ({error})") from error
    check_answers(client)
    return client

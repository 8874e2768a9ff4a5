"""Decide with as few bytes as possible whether a posted file is a landed snapshot.

Validators come first and cost no body. Where they are new, the end of the zip decides: its directory holds the CRC32,
both sizes and the timestamp of every member.
"""

import logging
import struct

from dataflows.errors import MateriaError
from dataflows.landing.local import Landing
from dataflows.landing.snapshot import Snapshot
from dataflows.source.archive import Archive, Probe
from dataflows.source.probe_memory import Known

_END_BYTES = 1024
"""More than the directory of a release and what follows it: USDA's have one member, 88 to 101 bytes in all."""
_LOCAL_HEADER_BYTES = 30
_SIZES_FOLLOW = 0x8
"""The flag of a member whose CRC follows its data instead of being in its header."""

log = logging.getLogger(__name__)


def landed_as(probe: Probe, archive: Archive, landing: Landing) -> Snapshot | None:
    """Return the landed snapshot that equals a posted file; None if only a download can decide.

    The result of reading the end of the file is stored with the validators, so that the next probe needs no body.
    """
    release, identity = probe.release, probe.identity
    ours = [each for each in reversed(landing.snapshots()) if each.dataset == release.dataset]
    for snapshot in ours:
        if snapshot.url == release.url and _is_of_marker(probe, snapshot):
            return snapshot
    key = landing.memory(release.dataset).find(release.url, probe.method, identity) if ours else None
    for snapshot in ours:
        if snapshot.key == key:
            return snapshot
    for snapshot in _candidates(probe, ours):
        if _has_same_end(probe, snapshot, archive, landing):
            return snapshot
    return None


def remember(landing: Landing, probe: Probe, snapshot: Snapshot) -> None:
    """Keep the validators of a probe for the snapshot that its file is, unless its marker has the same."""
    if probe.release.url == snapshot.url and _is_of_marker(probe, snapshot):
        return
    if probe.identity.etag is None and probe.identity.last_modified is None:
        return
    identity = probe.identity
    known = Known(
        probe.release.url, probe.method, identity.etag, identity.last_modified, identity.size_bytes, snapshot.key
    )
    landing.update_memory(snapshot.dataset, lambda memory: memory.with_known(known))


def _is_of_marker(probe: Probe, snapshot: Snapshot) -> bool:
    """Whether the validators are those that the snapshot was downloaded with."""
    identity = probe.identity
    headers = (identity.etag, identity.last_modified)
    if headers == (None, None) or headers != (snapshot.etag, snapshot.last_modified):
        return False
    return identity.size_bytes == snapshot.size_bytes or (identity.size_bytes is None and identity.etag is not None)


def _candidates(probe: Probe, ours: list[Snapshot]) -> list[Snapshot]:
    """The snapshots, newest first, that the file may be: of the same size, else of the same address."""
    size_bytes = probe.identity.size_bytes
    if size_bytes is not None:
        return [each for each in ours if each.size_bytes == size_bytes][:2]
    return [each for each in ours if each.url == probe.release.url][:1]


def _has_same_end(probe: Probe, snapshot: Snapshot, archive: Archive, landing: Landing) -> bool:
    try:
        first_bytes = max(snapshot.size_bytes - _END_BYTES, 0)
        end = landing.zip_bytes(snapshot, first_bytes, _END_BYTES)
        directory_bytes = _directory_bytes(end)
        if directory_bytes is None:
            return False
        piece = archive.piece(probe.release, snapshot.size_bytes - directory_bytes, directory_bytes)
        if piece is None or piece.identity.size_bytes not in (None, snapshot.size_bytes):
            return False
        if piece.start_bytes:
            is_same = piece.data == end[-directory_bytes:]
        else:
            is_same = piece.identity.size_bytes is not None and _has_same_head(piece.data, snapshot, landing)
    except (MateriaError, OSError) as error:
        log.info("could not compare %s with what is landed: %s", probe.release.name, error)
        return False
    # One of two nodes may lag: the validators of one must not be stored for the content of the other.
    if is_same and piece.identity.agrees_with(probe.identity):
        remember(landing, probe, snapshot)
    return is_same


def _directory_bytes(end: bytes) -> int | None:
    """How many bytes at the end of a zip are its directory and what follows; None when that is not all in `end`."""
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) < at + 22:
        return None
    size_bytes = struct.unpack_from("<I", end, at + 12)[0] + len(end) - at
    return size_bytes if size_bytes <= len(end) else None


def _has_same_head(start: bytes, snapshot: Snapshot, landing: Landing) -> bool:
    """Whether a file begins like the landed one, with a CRC in its first header; for servers that refuse Range."""
    head = landing.zip_bytes(snapshot, 0, len(start))
    has_crc = len(head) >= _LOCAL_HEADER_BYTES and not struct.unpack_from("<H", head, 6)[0] & _SIZES_FOLLOW
    return has_crc and start == head

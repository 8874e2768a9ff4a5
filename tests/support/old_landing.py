"""Converts a current landing to the old format, in which ETags named snapshots and headers dated them."""

import json
from datetime import date

from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot

OLD_FIELDS = (
    "dataset", "url", "etag", "last_modified", "release_year", "release_month", "released_on", "size_bytes", "sha256",
    "member", "row_count", "landed_at", "key",
)  # fmt: skip


def old_marker(snapshot: Snapshot, key: str, released_on: date) -> str:
    """A marker as commit a055f95 wrote it."""
    record = json.loads(snapshot.to_json()) | {
        "key": key,
        "etag": f'"{key}"',
        "last_modified": released_on.strftime("%a, %d %b %Y 16:00:00 GMT"),
        "released_on": str(released_on),
    }
    return json.dumps({name: record[name] for name in OLD_FIELDS}, indent=2) + "\n"


def age(landing: LocalLanding, snapshot: Snapshot, key: str, released_on: date) -> None:
    """Give a landed snapshot the name and the day that its headers would have given it."""
    landing.marker_path(key).write_text(old_marker(snapshot, key, released_on))
    landing.zip_path(snapshot.key).rename(landing.zip_path(key))
    rows_path = landing.rows_path(snapshot)
    old = landing.find(key)
    landing.rows_path(old).parent.mkdir(parents=True)
    rows_path.rename(landing.rows_path(old))
    rows_path.parent.rmdir()
    if not any(rows_path.parents[1].iterdir()):  # another snapshot may have the same day
        rows_path.parents[1].rmdir()
    landing.marker_path(snapshot.key).unlink()

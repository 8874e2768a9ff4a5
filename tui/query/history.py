"""Stores the executed queries between sessions, newest last, limited to KEPT_QUERIES."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

KEPT_QUERIES = 500
_LONGEST_QUERY = 32_768
"""In characters; longer queries are not stored."""


@dataclass(frozen=True)
class PastQuery:
    """An executed query."""

    sql: str
    at: str
    """When, ISO 8601, UTC."""


class QueryHistory:
    """The history in a JSON Lines file; unreadable lines are skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[PastQuery, ...]:
        """Return the stored queries, oldest first."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ()
        queries = (_query(line) for line in lines[-KEPT_QUERIES:])
        return tuple(query for query in queries if query)

    def add(self, query: PastQuery) -> None:
        """Store a query as the newest, without duplicates. Raises OSError when the file cannot be written."""
        if not query.sql.strip() or len(query.sql) > _LONGEST_QUERY:
            return
        kept = [past for past in self.read() if past.sql != query.sql][-(KEPT_QUERIES - 1) :]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        written.write_text("".join(json.dumps(asdict(past)) + "\n" for past in [*kept, query]), encoding="utf-8")
        written.chmod(0o600)
        written.replace(self.path)


def state_dir(environ: Mapping[str, str]) -> Path:
    """Return the console's state directory: `materia` in the XDG state directory."""
    return _xdg(environ, "XDG_STATE_HOME", ".local/state")


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Return the console's cache directory: `materia` in the XDG cache directory."""
    return _xdg(environ, "XDG_CACHE_HOME", ".cache")


def _xdg(environ: Mapping[str, str], name: str, default: str) -> Path:
    folder = environ.get(name, "")
    home = Path(environ.get("HOME") or Path.home())
    return (Path(folder) if folder.startswith("/") else home / default) / "materia"


def _query(line: str) -> PastQuery | None:
    try:
        return PastQuery(**json.loads(line))
    except (ValueError, TypeError):
        return None

"""The queries that were run, newest last, kept between sessions; bounded."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

KEPT_QUERIES = 500
_LONGEST_QUERY = 32_768
"""Characters; what is longer was not typed."""


@dataclass(frozen=True)
class PastQuery:
    """One query that was run."""

    sql: str
    at: str
    """When, ISO 8601, UTC."""


class QueryHistory:
    """The history in one file of JSON lines; a line that can't be read is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[PastQuery, ...]:
        """Every query kept, oldest first."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ()
        queries = (_query(line) for line in lines[-KEPT_QUERIES:])
        return tuple(query for query in queries if query)

    def add(self, query: PastQuery) -> None:
        """Keep a query as the newest, once. Raises OSError when the file can't be written."""
        if not query.sql.strip() or len(query.sql) > _LONGEST_QUERY:
            return
        kept = [past for past in self.read() if past.sql != query.sql][-(KEPT_QUERIES - 1) :]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        written.write_text("".join(json.dumps(asdict(past)) + "\n" for past in [*kept, query]), encoding="utf-8")
        written.chmod(0o600)
        written.replace(self.path)


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where the console keeps what it remembers: `materia` in the XDG state directory."""
    return _xdg(environ, "XDG_STATE_HOME", ".local/state")


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Where the console puts what it may lose: `materia` in the XDG cache directory."""
    return _xdg(environ, "XDG_CACHE_HOME", ".cache")


def _xdg(environ: Mapping[str, str], name: str, default: str) -> Path:
    given = environ.get(name, "")
    home = Path(environ.get("HOME") or Path.home())
    return (Path(given) if given.startswith("/") else home / default) / "materia"


def _query(line: str) -> PastQuery | None:
    try:
        return PastQuery(**json.loads(line))
    except (ValueError, TypeError):
        return None

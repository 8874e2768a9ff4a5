"""`/health` for uptime monitors: the result of `materia status` as JSON over HTTP, on loopback only."""

import json
import logging
from dataclasses import asdict
from datetime import date, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from dataflows.errors import MateriaError
from ops.config.settings import Settings
from ops.health.heartbeat import read_heartbeat
from ops.health.status import Status, take_status
from ops.journal.run import utc_now

LOOPBACK = "127.0.0.1"
CLIENT_TIMEOUT_S = 10.0
"""Idle timeout of a client."""

log = logging.getLogger(__name__)


def health_server(settings: Settings, port: int) -> ThreadingHTTPServer:
    """A server on loopback that answers `/health` with the status as JSON: 200 if all is well, 503 if not.

    Port 0 means any free port. The caller serves and closes it. Raises OSError if the port is in use.
    """
    handler = type("Handler", (_Handler,), {"settings": settings})
    server = ThreadingHTTPServer((LOOPBACK, port), handler)
    server.daemon_threads = True
    return server


def health(settings: Settings, now: datetime) -> tuple[HTTPStatus, dict[str, Any]]:
    """The HTTP status and the JSON record of `/health`."""
    status = take_status(settings, now)
    return (HTTPStatus.OK if status.ok else HTTPStatus.SERVICE_UNAVAILABLE), _record(settings, status)


def _record(settings: Settings, status: Status) -> dict[str, Any]:
    generation = status.generation
    try:
        heartbeat = read_heartbeat(settings.supervisor_dir)
    except MateriaError:
        heartbeat = None  # the problems contain this error
    return {
        "ok": status.ok,
        "checked_at": status.checked_at,
        "generation": generation and generation.number,
        "newest_released_on": generation and generation.newest_released_on,
        "supervisor": heartbeat and asdict(heartbeat),
        "problems": [asdict(problem) for problem in status.problems],
    }


class _Handler(BaseHTTPRequestHandler):
    settings: ClassVar[Settings]
    timeout = CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/health":
            self.send_error(HTTPStatus.NOT_FOUND, "use /health")
            return
        code, record = health(self.settings, utc_now())
        body = json.dumps(record, default=_plain).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)

"""Alerts: each problem of `materia status` is told once, and once more when it is over.

A log line always; a webhook where ALERT_WEBHOOK_URL names one, asked again at the next tick until it took it;
a dead-man switch where ALERT_PING_URL names one. The judge is `ops.health.status`, nobody else.
"""

import json
import logging
import os
from dataclasses import replace
from datetime import datetime
from urllib.error import HTTPError, URLError
from urllib.request import Request

from ops.config.settings import Settings
from ops.health.memory import Memory, Raised
from ops.health.status import Problem, Status
from ops.host.redact import Redactor

TIMEOUT_S = 10.0
MOST_AT_ONCE = 10
"""Webhook calls in a tick; the rest waits for the next."""

log = logging.getLogger(__name__)


def tell(settings: Settings, status: Status, memory: Memory) -> Memory:
    """Raise what is new, resolve what is over, and return the memory of it."""
    problems = {problem.key or problem.what: problem for problem in status.problems}
    alerts = dict(memory.alerts)
    for key, problem in problems.items():
        if key not in alerts:
            alerts[key] = _raise(key, problem, status.checked_at)
        elif alerts[key].is_over:
            # It came back before the webhook heard that it was over: for the webhook it never went.
            alerts[key] = replace(alerts[key], is_over=False)
    for key, alert in alerts.items():
        if key not in problems and not alert.is_over:
            log.info("resolved", extra={"alert": key, "what": alert.what})
            alerts[key] = replace(alert, is_over=True)
    return replace(memory, alerts=_delivered(settings.supervision.alert_webhook_url, alerts))


def _raise(key: str, problem: Problem, now: datetime) -> Raised:
    log.warning("alert", extra={"alert": key, "what": problem.what, "next": problem.next_step})
    return Raised(str(problem.severity), problem.what, problem.next_step, problem.since or now)


def _delivered(url: str | None, alerts: dict[str, Raised]) -> dict[str, Raised]:
    """The alerts after the webhook was told what it does not know yet; those it need not know more of are gone."""
    left = MOST_AT_ONCE
    remaining = {}
    for key, alert in alerts.items():
        wanted = alert.is_told if alert.is_over else not alert.is_told
        if wanted and url is not None and left > 0:
            took = _post(url, key, alert)
            # One that does not answer must not hold the tick for each of them.
            left = left - 1 if took else 0
            wanted = not took
        waits = wanted and url is not None
        if alert.is_over and not waits:
            continue
        remaining[key] = replace(alert, is_told=alert.is_told or not waits)
    return remaining


def _post(url: str, key: str, alert: Raised) -> bool:
    """Whether the webhook took it. `text` is what chat services show."""
    host = os.uname().nodename
    event = "resolved" if alert.is_over else "raised"
    mark = "resolved" if alert.is_over else alert.severity
    record = {
        "text": f"materia on {host}: {mark}: {alert.what}" + ("" if alert.is_over else f" (next: {alert.next_step})"),
        "event": event,
        "alert": key,
        "severity": alert.severity,
        "what": alert.what,
        "next_step": alert.next_step,
        "since": alert.since.isoformat(),
        "host": host,
    }
    body = Redactor.from_environ()(json.dumps(record)).encode()
    request = Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - the settings allow http(s) only
    return _answered("the alert webhook", request)


def ping(url: str | None) -> None:
    """Tell the dead-man switch that the supervisor ticks; that it hears nothing is its alarm, not ours."""
    if url is not None:
        _answered("the dead-man switch", Request(url))  # noqa: S310 - the settings allow http(s) only


def _answered(whom: str, request: Request) -> bool:
    """Whether it answered with success; if not, why is logged, without the address, which may hold a secret."""
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 - as above
            return True
    except HTTPError as error:
        error.close()
        why = f"HTTP {error.code}"
    except (URLError, OSError, HTTPException, ValueError) as error:
        why = Redactor.from_environ()(str(error))
    log.warning("%s did not take it, and is asked again at the next tick", whom, extra={"error": why})
    return False

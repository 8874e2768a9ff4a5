"""Alerts: each problem of `materia status` is sent once, and once more when it is resolved.

A log line always; a webhook where ALERT_WEBHOOK_URL names one, retried at the next ticks and then at growing pauses; a
dead-man switch where ALERT_PING_URL names one. What is a problem is decided by `ops.health.status` alone.
"""

import json
import logging
import os
from dataclasses import replace
from datetime import datetime
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import Request

from dataflows.errors import SettingsError
from ops.config.schedule import Backoff
from ops.config.settings import Settings
from ops.health.memory import Memory, Raised, Webhook
from ops.health.status import Problem, Status
from ops.host.redact import Redactor

TIMEOUT_S = 10.0
"""How long a webhook may take in all, also one that answers a byte at a time."""
MOST_AT_ONCE = 10
"""Webhook calls in a tick; the rest waits for the next."""
QUICK_RETRIES = 5
"""Failures in a row after which a webhook is no longer called in every tick."""
BACKOFF = Backoff()
MOST_KEPT = 200
"""Resolved alerts that wait for a webhook; beyond it the oldest are dropped."""

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
    return _delivered(settings.supervision.alert_webhook_url, replace(memory, alerts=alerts), status.checked_at)


def send_test(settings: Settings, now: datetime) -> bool:
    """Send one alert to the webhook that says it is a test; whether it was taken. Raises SettingsError without one."""
    url = settings.supervision.alert_webhook_url
    if url is None:
        raise SettingsError("ALERT_WEBHOOK_URL is not set, so no alert leaves this host; set it and try again")
    return _post(url, "test", Raised("test", "this is a test alert", "nothing to do", now))


def _raise(key: str, problem: Problem, now: datetime) -> Raised:
    log.warning("alert", extra={"alert": key, "what": problem.what, "next": problem.next_step})
    return Raised(str(problem.severity), problem.what, problem.next_step, problem.since or now)


def _delivered(url: str | None, memory: Memory, now: datetime) -> Memory:
    """The memory after the webhook got what it does not know yet; alerts that it need not know more of are gone."""
    webhook = memory.webhook if url is not None else None
    left = MOST_AT_ONCE if _may_call(webhook, now) else 0
    remaining = {}
    for key, alert in memory.alerts.items():
        wanted = alert.is_told if alert.is_over else not alert.is_told
        if wanted and url is not None and left > 0:
            took = _post(url, key, alert)
            webhook = None if took else Webhook(webhook.failures + 1 if webhook else 1, now)
            # One that does not answer must not hold the tick for each of them.
            left = left - 1 if took else 0
            wanted = not took
        waits = wanted and url is not None
        if alert.is_over and not waits:
            continue
        remaining[key] = replace(alert, is_told=alert.is_told or not waits)
    return replace(memory, alerts=_bounded(remaining), webhook=webhook)


def _may_call(webhook: Webhook | None, now: datetime) -> bool:
    if webhook is None or webhook.failures < QUICK_RETRIES:
        return True
    return BACKOFF.is_over(webhook.failures - QUICK_RETRIES + 1, webhook.last_at, now)


def _bounded(alerts: dict[str, Raised]) -> dict[str, Raised]:
    resolved = sorted((key for key in alerts if alerts[key].is_over), key=lambda key: alerts[key].since)
    dropped = set(resolved[: max(len(resolved) - MOST_KEPT, 0)])
    if dropped:
        log.warning("resolved alerts that the webhook did not take are dropped", extra={"alerts": len(dropped)})
    return {key: alert for key, alert in alerts.items() if key not in dropped}


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
    """Whether it answered with success in time; if not, why is logged, without the address, which may hold a secret."""
    failures: list[str | None] = []
    # A timeout of a socket begins again with each byte; that of a thread does not.
    call = Thread(target=lambda: failures.append(_failure_of(request)), daemon=True)
    call.start()
    call.join(TIMEOUT_S)
    why = failures[0] if failures else f"no answer within {TIMEOUT_S:g} s"
    if why is not None:
        log.warning("%s did not take it, and is called again later", whom, extra={"error": why})
    return why is None


def _failure_of(request: Request) -> str | None:
    """Why a call failed; None when it was answered with success."""
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 - the settings allow http(s) only
            return None
    except HTTPError as error:
        error.close()
        return f"HTTP {error.code}"
    except (URLError, OSError, HTTPException, ValueError) as error:
        return Redactor.from_environ()(str(error)) or type(error).__name__

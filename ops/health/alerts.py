"""Alerts: each problem of `materia status` is sent once, and its resolution once.

Each alert is a log line. ALERT_WEBHOOK_URL adds a webhook, retried at the next ticks and then with a growing backoff;
ALERT_PING_URL adds a dead-man switch. `ops.health.status` alone decides what is a problem.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import Request

from dataflows.errors import SettingsError
from ops.config.schedule import Backoff
from ops.config.settings import Settings
from ops.health.memory import Alert, Memory, WebhookFailures
from ops.health.status import Problem, Status
from ops.host.redact import Redactor

TIMEOUT_S = 10.0
"""Deadline of a whole webhook call, even if the answer arrives one byte at a time."""
MAX_CALLS_PER_TICK = 10
"""WebhookFailures calls in one tick; the next tick sends the rest."""
QUICK_RETRIES = 5
"""Consecutive failures after which the webhook is no longer called in every tick."""
BACKOFF = Backoff()
MAX_RESOLVED = 200
"""Resolved alerts kept until the webhook accepts them; beyond this the oldest are dropped."""

log = logging.getLogger(__name__)


def send_alerts(settings: Settings, status: Status, memory: Memory) -> Memory:
    """Raise new alerts, resolve those whose problem is gone, and return the updated memory."""
    problems = {problem.key or problem.what: problem for problem in status.problems}
    alerts = dict(memory.alerts)
    for key, problem in problems.items():
        if key not in alerts:
            alerts[key] = _raise(key, problem, status.checked_at)
        elif alerts[key].is_over:
            # The problem returned before the webhook got the resolution: for the webhook it never ended.
            alerts[key] = replace(alerts[key], is_over=False)
    for key, alert in alerts.items():
        if key not in problems and not alert.is_over:
            log.info("resolved", extra={"alert": key, "what": alert.what})
            alerts[key] = replace(alert, is_over=True)
    return _call_webhook(settings.supervision.alert_webhook_url, replace(memory, alerts=alerts), status.checked_at)


def send_test(settings: Settings, now: datetime) -> bool:
    """Send a test alert to the webhook and return whether it was accepted. Raises SettingsError without a webhook."""
    url = settings.supervision.alert_webhook_url
    if url is None:
        raise SettingsError("ALERT_WEBHOOK_URL is not set, so this host sends no alerts; set it and try again")
    return _post(url, "test", Alert("test", "this is a test alert", "nothing to do", now))


def _raise(key: str, problem: Problem, now: datetime) -> Alert:
    log.warning("alert", extra={"alert": key, "what": problem.what, "next": problem.next_step})
    return Alert(str(problem.severity), problem.what, problem.next_step, problem.since or now)


def _call_webhook(url: str | None, memory: Memory, now: datetime) -> Memory:
    """Send pending alerts to the webhook; return the memory without resolved alerts that need no further call."""
    webhook = memory.webhook if url is not None else None
    left = MAX_CALLS_PER_TICK if may_call(webhook, now) else 0
    remaining = {}
    for key, alert in memory.alerts.items():
        is_pending = alert.is_sent if alert.is_over else not alert.is_sent
        if is_pending and url is not None and left > 0:
            is_accepted = _post(url, key, alert)
            webhook = after_call(webhook, is_accepted, now)
            # A webhook that does not answer must not delay the tick once for each alert.
            left = left - 1 if is_accepted else 0
            is_pending = not is_accepted
        is_waiting = is_pending and url is not None
        if alert.is_over and not is_waiting:
            continue
        remaining[key] = replace(alert, is_sent=alert.is_sent or not is_waiting)
    return replace(memory, alerts=_drop_oldest_resolved(remaining), webhook=webhook)


def after_call(webhook: WebhookFailures | None, is_accepted: bool, now: datetime) -> WebhookFailures | None:
    """The webhook's consecutive failures after one more call."""
    return None if is_accepted else WebhookFailures(webhook.failures + 1 if webhook else 1, now)


def may_call(webhook: WebhookFailures | None, now: datetime) -> bool:
    """Whether a webhook that failed is to be called again by now."""
    if webhook is None or webhook.failures < QUICK_RETRIES:
        return True
    return BACKOFF.is_over(webhook.failures - QUICK_RETRIES + 1, webhook.last_at, now)


def _drop_oldest_resolved(alerts: dict[str, Alert]) -> dict[str, Alert]:
    resolved = sorted((key for key in alerts if alerts[key].is_over), key=lambda key: alerts[key].since)
    dropped = set(resolved[: max(len(resolved) - MAX_RESOLVED, 0)])
    if dropped:
        log.warning("dropped resolved alerts that the webhook did not accept", extra={"alerts": len(dropped)})
    return {key: alert for key, alert in alerts.items() if key not in dropped}


def _post(url: str, key: str, alert: Alert) -> bool:
    """Send an alert and return whether the webhook accepted it."""
    event = "resolved" if alert.is_over else "raised"
    mark = "resolved" if alert.is_over else alert.severity
    record = {
        "text": f"{mark}: {alert.what}" + ("" if alert.is_over else f" (next: {alert.next_step})"),
        "event": event,
        "alert": key,
        "severity": alert.severity,
        "what": alert.what,
        "next_step": alert.next_step,
        "since": alert.since.isoformat(),
    }
    return post(url, record)


def post(url: str, record: Mapping[str, str]) -> bool:
    """Send a record with this host's name and return whether the webhook accepted it. Chat services show `text`."""
    host = os.uname().nodename
    whole = {**record, "text": f"materia on {host}: {record['text']}", "host": host}
    body = Redactor.from_environ()(json.dumps(whole)).encode()
    request = Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - the settings allow http(s) only
    return _request_succeeds("the alert webhook", request)


def ping(url: str | None) -> None:
    """Notify the dead-man switch that the supervisor ticks; the switch raises the alarm when pings stop."""
    if url is not None:
        _request_succeeds("the dead-man switch", Request(url))  # noqa: S310 - the settings allow http(s) only


def _request_succeeds(target: str, request: Request) -> bool:
    """Send a request with a deadline; log why it failed, without its address, which may contain a secret."""
    failures: list[str | None] = []
    # A socket's timeout restarts with each byte; a thread's does not.
    call = Thread(target=lambda: failures.append(_failure_of(request)), daemon=True)
    call.start()
    call.join(TIMEOUT_S)
    why = failures[0] if failures else f"no answer within {TIMEOUT_S:g} s"
    if why is not None:
        log.warning("%s failed and is called again later", target, extra={"error": why})
    return why is None


def _failure_of(request: Request) -> str | None:
    """Why a call failed; None if it succeeded."""
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

"""Polls the providers for our workers in the background; neither a screen nor quitting waits for an answer."""

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tui.widgets.panel import Failure, Found, Part, attempt

if TYPE_CHECKING:
    from ops.workers.settings import WorkerSettings
    from ops.workers.view import WorkerRow, Workers

EVERY_S = 10.0
"""Age at which an answer is refreshed."""
_SLOW_ANSWER_S = 5.0
"""A provider whose refresh takes longer is listed as waiting."""
_START_DELAY_S = 0.3
"""Delay before a request: importing a provider's client would delay the first frame."""


@dataclass(frozen=True)
class WorkersSnapshot:
    """The latest answers of all providers."""

    workers: "Part[Workers] | None"
    """None until a provider has answered."""
    waiting: tuple[str, ...] = ()
    """The providers that have not answered, each with the time (UTC) of the request."""


class _ProviderPoll:
    """One provider: its last answer, and the request in progress."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: Part[tuple[WorkerRow, ...]] | None = None
        self._asked_at: datetime | None = None
        self._started_s = float("-inf")
        self._request: threading.Timer | None = None

    def ask(self, settings: "WorkerSettings", now: datetime) -> None:
        """Send a request, unless one is in progress."""
        if self._request is None or not self._request.is_alive():
            self._asked_at, self._started_s = now, time.monotonic()
            self._request = threading.Timer(_START_DELAY_S, self._ask, (settings, now))
            # Daemon thread: a client waits half a minute and retries, and quitting must not wait for it.
            self._request.daemon = True
            self._request.start()

    def _ask(self, settings: "WorkerSettings", now: datetime) -> None:
        from ops.workers.view import ask

        self.answer = attempt(lambda: ask(self.name, settings, now))

    def expire(self) -> None:
        """Mark the answer as stale, so that the next look requests it again."""
        self._started_s = float("-inf")

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._started_s

    @property
    def waiting(self) -> str | None:
        """The provider's name and the time of the request if an answer is outstanding, else None."""
        is_asking = self._request is not None and self._request.is_alive()
        if is_asking and (self.answer is None or self.age_s > _SLOW_ANSWER_S):
            return f"{self.name}, asked at {self._asked_at:%H:%M:%S} UTC"
        return None


class WorkersWatch:
    """The latest answers of all providers whose credentials are set, shared by all screens."""

    def __init__(self) -> None:
        self._inquiries: dict[str, _ProviderPoll] = {}

    def latest(self, now: datetime) -> WorkersSnapshot:
        """Return the latest answers without waiting; requests those older than `EVERY_S` again. `now` is in UTC."""
        from ops.workers.settings import WorkerSettings, configured_providers
        from ops.workers.view import NO_TOKEN

        settings = attempt(WorkerSettings.from_environ)
        if isinstance(settings, Failure):
            return WorkersSnapshot(settings)
        names = configured_providers(settings.value)
        if not names:
            return WorkersSnapshot(Found(NO_TOKEN))
        inquiries = [self._inquiries.setdefault(name, _ProviderPoll(name)) for name in names]
        for inquiry in inquiries:
            if inquiry.age_s >= EVERY_S:
                inquiry.ask(settings.value, now)
        waiting = tuple(inquiry.waiting for inquiry in inquiries if inquiry.waiting)
        return WorkersSnapshot(_merge_answers([inquiry.answer for inquiry in inquiries]), waiting)

    def ask_again(self) -> None:
        """Mark all answers as stale, so that the next look requests them again."""
        for inquiry in self._inquiries.values():
            inquiry.expire()


def _merge_answers(answers: "list[Part[tuple[WorkerRow, ...]] | None]") -> "Part[Workers] | None":
    """Merge the answers into one; a Failure only when all providers failed, None when none has answered."""
    from ops.workers.view import Workers, oldest_first

    failures = [answer for answer in answers if isinstance(answer, Failure)]
    found = [answer for answer in answers if isinstance(answer, Found)]
    if len(failures) == len(answers):
        return failures[0]
    if not failures and not found:
        return None
    rows = oldest_first(row for answer in found for row in answer.value)
    return Found(Workers(rows, errors=tuple(f"{each.what}; {each.next_step}" for each in failures)))

"""What the providers say of our workers. They are asked in the background: no screen waits for them, nor who leaves."""

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
"""How old an answer may get before its provider is asked again."""
_PATIENCE_S = 5.0
"""Who takes longer to answer again is named."""
_AFTER_S = 0.3
"""Importing a provider's client would hold the first frame up."""


@dataclass(frozen=True)
class WorkersSeen:
    """What is known of the workers."""

    workers: "Part[Workers] | None"
    """None as long as no provider has said anything."""
    waiting: tuple[str, ...] = ()
    """Whose answer is missing, each with the time (UTC) at which it was asked."""


class _Inquiry:
    """One provider: what it said last, and whether it is being asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: Part[tuple[WorkerRow, ...]] | None = None
        self._asked_at: datetime | None = None
        self._began_s = float("-inf")
        self._asking: threading.Timer | None = None

    def ask(self, settings: "WorkerSettings", now: datetime) -> None:
        """Ask, unless it is being asked."""
        if self._asking is None or not self._asking.is_alive():
            self._asked_at, self._began_s = now, time.monotonic()
            self._asking = threading.Timer(_AFTER_S, self._ask, (settings, now))
            # A client waits half a minute for an answer, and tries again: whoever leaves need not.
            self._asking.daemon = True
            self._asking.start()

    def _ask(self, settings: "WorkerSettings", now: datetime) -> None:
        from ops.workers.view import ask

        self.answer = attempt(lambda: ask(self.name, settings, now))

    def forget_when(self) -> None:
        """Have it asked anew at the next look."""
        self._began_s = float("-inf")

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._began_s

    @property
    def waiting(self) -> str | None:
        """Its name and when it was asked, where an answer is overdue."""
        is_asking = self._asking is not None and self._asking.is_alive()
        if is_asking and (self.answer is None or self.age_s > _PATIENCE_S):
            return f"{self.name}, asked at {self._asked_at:%H:%M:%S} UTC"
        return None


class WorkersWatch:
    """The last answers of all providers whose credentials are set, for every screen of a console."""

    def __init__(self) -> None:
        self._inquiries: dict[str, _Inquiry] = {}

    def latest(self, now: datetime) -> WorkersSeen:
        """What is known now (UTC), at once; asks again, for the next time, whoever was not asked for `EVERY_S`."""
        from ops.workers.settings import WorkerSettings, present
        from ops.workers.view import NO_TOKEN

        settings = attempt(WorkerSettings.from_environ)
        if isinstance(settings, Failure):
            return WorkersSeen(settings)
        names = present(settings.value)
        if not names:
            return WorkersSeen(Found(NO_TOKEN))
        inquiries = [self._inquiries.setdefault(name, _Inquiry(name)) for name in names]
        for inquiry in inquiries:
            if inquiry.age_s >= EVERY_S:
                inquiry.ask(settings.value, now)
        waiting = tuple(inquiry.waiting for inquiry in inquiries if inquiry.waiting)
        return WorkersSeen(_together([inquiry.answer for inquiry in inquiries]), waiting)

    def ask_again(self) -> None:
        """Have the next look ask, however lately it was done."""
        for inquiry in self._inquiries.values():
            inquiry.forget_when()


def _together(answers: "list[Part[tuple[WorkerRow, ...]] | None]") -> "Part[Workers] | None":
    """The workers of all that answered, beside the troubles of the others; a trouble, where all are in trouble."""
    from ops.workers.view import Workers, oldest_first

    failures = [answer for answer in answers if isinstance(answer, Failure)]
    found = [answer for answer in answers if isinstance(answer, Found)]
    if len(failures) == len(answers):
        return failures[0]
    if not failures and not found:
        return None
    rows = oldest_first(row for answer in found for row in answer.value)
    return Found(Workers(rows, troubles=tuple(f"{each.what}; {each.next_step}" for each in failures)))

"""A problem: what is wrong, since when, and what to do next. One model for status, console and alerts."""

import shlex
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Severity(StrEnum):
    """What kind of problem it is."""

    MISSING = "missing"
    FAILED = "failed"
    STALE = "stale"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Problem:
    """Something that needs the operator: what, since when (UTC, if known), and the next step.

    The next step begins with the command that solves the problem, if there is one.
    """

    severity: Severity
    what: str
    since: datetime | None
    next_step: str
    run_id: int | None = None
    """The run with the details, if any."""
    key: str = ""
    """Identifies the problem for as long as it lasts, while its details may change."""

    @property
    def command(self) -> tuple[str, ...]:
        """The arguments of `materia` that solve the problem; empty if the next step is no command."""
        lexer = shlex.shlex(self.next_step, posix=True, punctuation_chars=";,")
        lexer.whitespace_split = True
        try:
            words = list(lexer) or [""]
        except ValueError:  # a sentence with an apostrophe
            return ()
        end = next((index for index, word in enumerate(words) if not word.strip(";,")), len(words))
        return tuple(words[1:end]) if words[0] == "materia" else ()

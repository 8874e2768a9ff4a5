"""Navigation messages: a pane posts one, the app shows the target pane and delivers the message to it.

The dataclasses are not frozen because Textual stores state on each message.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from textual.message import Message


class Navigation(Message):
    """Base class: requests that the pane PANE_ID is shown and displays something."""

    PANE_ID: str


@dataclass
class OpenRun(Navigation):
    """Show a run with its steps, error and log."""

    run_id: int
    PANE_ID = "runs"


@dataclass
class OpenLog(Navigation):
    """Show a log, optionally at a line (counted from 1)."""

    path: Path
    run_id: int | None = None
    at_line: int | None = None
    PANE_ID = "logs"


@dataclass
class OpenFact(Navigation):
    """Show the history of a fact, release by release."""

    commodity_code: str
    country_code: str
    market_year: int
    attribute_id: str
    unit_id: str | None = None
    PANE_ID = "releases"


@dataclass
class OpenRelease(Navigation):
    """Show the changes of the release published on a day."""

    released_on: date
    PANE_ID = "releases"


@dataclass
class RunQuery(Navigation):
    """Put a query into the editor and run it."""

    sql: str
    PANE_ID = "query"


@dataclass
class FollowRun(Navigation):
    """Show the run of a process once it is recorded; its id is larger than `newest_id`."""

    pid: int
    newest_id: int
    PANE_ID = "runs"


@dataclass
class StartPipeline(Navigation):
    """Open the confirmation dialog for starting a pipeline."""

    pipeline: str
    PANE_ID = "runs"

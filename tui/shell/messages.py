"""Where to go next: a pane posts one of these, the app shows the pane it is for and hands it on.

They are dataclasses, and not frozen only because Textual notes on each message how far it has travelled.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from textual.message import Message


class Navigation(Message):
    """Asks the app to show a pane, and that pane to show something."""

    PANE_ID: str


@dataclass
class OpenRun(Navigation):
    """Show a run with its steps, error and log."""

    run_id: int
    PANE_ID = "runs"


@dataclass
class OpenLog(Navigation):
    """Show a log, at a line where one is given (counted from 1)."""

    path: Path
    run_id: int | None = None
    at_line: int | None = None
    PANE_ID = "logs"


@dataclass
class OpenFact(Navigation):
    """Show what USDA said about a fact, release by release."""

    commodity_code: str
    country_code: str
    market_year: int
    attribute_id: str
    unit_id: str | None = None
    PANE_ID = "releases"


@dataclass
class OpenRelease(Navigation):
    """Show what the release published on a day changed."""

    released_on: date
    PANE_ID = "releases"


@dataclass
class RunQuery(Navigation):
    """Put a query into the editor and run it."""

    sql: str
    PANE_ID = "query"


@dataclass
class StartPipeline(Navigation):
    """Ask whether to start a pipeline; nothing starts without an answer."""

    pipeline: str
    PANE_ID = "runs"


@dataclass
class OpenWorkers(Navigation):
    """Show the workers there are."""

    PANE_ID = "workers"

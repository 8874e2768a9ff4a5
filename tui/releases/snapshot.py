"""What the Releases screen shows at a moment: all of it from one generation."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from dataflows.errors import ServingMissingError
from dataflows.serving import Generation
from tui.releases import questions
from tui.releases.questions import CommodityChange, FactKey, FactStory, Order, Release, Revision, SheetLine
from tui.widgets.panel import Failure, Found, Part, attempt

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

_ATTEMPTS: Final = 3
"""How often it is asked again because a generation was published in between."""


@dataclass(frozen=True)
class Wanted:
    """What the person wants to see."""

    released_on: date | None = None
    """None for the newest release."""
    commodity_code: str | None = None
    order: Order = "weight"
    fact: FactKey | None = None
    day: date | None = None
    """The day of the balance sheet; None for the day of the release before the one shown."""


@dataclass(frozen=True)
class Changes:
    """A release and what it changed."""

    releases: tuple[Release, ...]
    release: Release
    commodities: tuple[CommodityChange, ...]
    revisions: tuple[Revision, ...]


@dataclass(frozen=True)
class Fact:
    """A fact's story, and its balance sheet on a day."""

    story: FactStory | None
    day: date
    checked_on: date | None
    """The last day on which USDA's current file was what is served, for the as-of macros."""
    days: tuple[date, ...]
    """The days between which something may differ, oldest first."""
    sheet: tuple[SheetLine, ...]


@dataclass(frozen=True)
class ReleasesSeen:
    """One look; each part may have failed by itself."""

    wanted: Wanted
    generation: Generation | None
    """None when nothing is served yet."""
    changes: Part[Changes | None]
    """None within: nothing was released yet."""
    fact: Part[Fact] | None

    @property
    def has_failed(self) -> bool:
        """Whether a part could not be looked up; it may be, the next time."""
        return isinstance(self.changes, Failure) or isinstance(self.fact, Failure)


def take_releases(
    reader: "ServingReader", wanted: Wanted, today: date, checked_on: Callable[["ServingReader"], date | None]
) -> ReleasesSeen:
    """Ask everything that is wanted; raises ServingBrokenError when what is served cannot be opened.

    `checked_on` gives the last day on which USDA's current file was what a reader serves.
    """
    try:
        for _ in range(_ATTEMPTS):
            seen = _seen(reader, wanted, today, checked_on)
            if reader.generation() == seen.generation:
                break
    except ServingMissingError:
        return ReleasesSeen(wanted, None, Found(None), None)
    return seen


def _seen(
    reader: "ServingReader", wanted: Wanted, today: date, checked_on: Callable[["ServingReader"], date | None]
) -> ReleasesSeen:
    generation, key = reader.generation(), wanted.fact
    changes = attempt(lambda: _changes(reader, wanted))
    found = changes.value if isinstance(changes, Found) else None
    fact = attempt(lambda: _fact(reader, wanted, key, found, today, checked_on(reader))) if key else None
    return ReleasesSeen(wanted, generation, changes, fact)


def _changes(reader: "ServingReader", wanted: Wanted) -> Changes | None:
    known = questions.releases(reader)
    if not known:
        return None
    release = next((release for release in known if release.released_on == wanted.released_on), known[0])
    return Changes(
        known,
        release,
        questions.commodity_changes(reader, release.released_on),
        questions.revisions(reader, release.released_on, wanted.order, wanted.commodity_code),
    )


def _fact(
    reader: "ServingReader",
    wanted: Wanted,
    key: FactKey,
    changes: Changes | None,
    today: date,
    checked_on: date | None,
) -> Fact:
    story = questions.fact_story(reader, key, checked_on)
    known = [release.released_on for release in changes.releases] if changes else []
    days = sorted(
        {*known, *(version.valid_from for version in story.versions if story), today} if story else {*known, today}
    )
    before = changes.release.compared_with or changes.release.released_on if changes else today
    day = wanted.day or before
    sheet = questions.balance_sheet(reader, key, day, checked_on)
    return Fact(story, day, checked_on, tuple(days), sheet)

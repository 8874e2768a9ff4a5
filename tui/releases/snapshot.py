"""Reads the Releases screen as one frozen snapshot from one generation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Final

from dataflows.errors import ServingMissingError
from dataflows.serving import Generation
from ops.pipelines import release_changes
from ops.pipelines.release_changes import CommodityChange, FactKey, Order, Release, SheetKey
from tui.releases import questions
from tui.releases.questions import FactStory, SheetLine
from tui.widgets.panel import Failure, Found, Part, attempt

if TYPE_CHECKING:
    import pyarrow as pa

    from dataflows.serving import ServingReader

_ATTEMPTS: Final = 3
"""How often a snapshot is read again because a generation was published meanwhile."""


@dataclass(frozen=True)
class Selection:
    """What the screen should show: release, commodity, filter, order, unfolded sheets, fact, day."""

    released_on: date | None = None
    """None for the newest release."""
    commodity_code: str | None = None
    order: Order = "weight"
    words: str = ""
    """The filter of revisions, as `folded_sql` takes it."""
    unfolded: frozenset[SheetKey] = frozenset()
    """The balance sheets of which every change is listed."""
    fact: FactKey | None = None
    day: date | None = None
    """The day of the balance sheet; None for the day of the release before the one shown."""


@dataclass(frozen=True)
class Changes:
    """A release and what it changed."""

    releases: tuple[Release, ...]
    release: Release
    commodities: tuple[CommodityChange, ...]
    revisions: "pa.Table" = field(repr=False)
    """The rows of `folded_revisions`."""


@dataclass(frozen=True)
class Fact:
    """The versions of a fact, and its balance sheet on a day."""

    story: FactStory | None
    day: date
    checked_on: date | None
    """The last day on which the served data matched USDA's current file, for the as-of macros."""
    days: tuple[date, ...]
    """The days on which the sheet may change, oldest first."""
    sheet: tuple[SheetLine, ...]


@dataclass(frozen=True)
class ReleasesSnapshot:
    """The content of the screen; each part may have failed on its own."""

    selection: Selection
    generation: Generation | None
    """None when nothing is served yet."""
    changes: Part[Changes | None]
    """Found(None) when there is no release yet."""
    fact: Part[Fact] | None

    @property
    def has_failed(self) -> bool:
        """Whether a part could not be read, so that the next look should retry."""
        return isinstance(self.changes, Failure) or isinstance(self.fact, Failure)


def read_releases(
    reader: "ServingReader", selection: Selection, today: date, checked_on: Callable[["ServingReader"], date | None]
) -> ReleasesSnapshot:
    """Read everything that is selected. Raises ServingBrokenError when the served file cannot be opened.

    `checked_on` returns the last day on which a reader's data matched USDA's current file.
    """
    try:
        for _ in range(_ATTEMPTS):
            seen = _read_snapshot(reader, selection, today, checked_on)
            if reader.generation() == seen.generation:
                break
    except ServingMissingError:
        return ReleasesSnapshot(selection, None, Found(None), None)
    return seen


def _read_snapshot(
    reader: "ServingReader", selection: Selection, today: date, checked_on: Callable[["ServingReader"], date | None]
) -> ReleasesSnapshot:
    generation, key = reader.generation(), selection.fact
    changes = attempt(lambda: _changes(reader, selection))
    found = changes.value if isinstance(changes, Found) else None
    fact = attempt(lambda: _fact(reader, selection, key, found, today, checked_on(reader))) if key else None
    return ReleasesSnapshot(selection, generation, changes, fact)


def _changes(reader: "ServingReader", selection: Selection) -> Changes | None:
    known = release_changes.releases(reader)
    if not known:
        return None
    release = next((release for release in known if release.released_on == selection.released_on), known[0])
    return Changes(
        known,
        release,
        release_changes.commodity_changes(reader, release.released_on),
        release_changes.folded_revisions(
            reader,
            release.released_on,
            selection.order,
            selection.commodity_code,
            selection.words,
            selection.unfolded,
        ),
    )


def _fact(
    reader: "ServingReader",
    selection: Selection,
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
    day = selection.day or before
    sheet = questions.balance_sheet(reader, key, day, checked_on)
    return Fact(story, day, checked_on, tuple(days), sheet)

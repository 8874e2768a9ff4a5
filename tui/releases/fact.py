"""Shows one fact: a chart of its values, its versions, and its balance sheet as of a day beside today's."""

from datetime import date

from textual.app import ComposeResult
from textual.containers import Container

from ops.pipelines.release_changes import FactKey
from tui.releases import drawing
from tui.releases.questions import FactStory
from tui.releases.snapshot import Fact
from tui.widgets.panel import Panel, Part
from tui.widgets.table import Table


class FactView(Container):
    """A step chart, the table of versions, and the balance sheet."""

    def __init__(self) -> None:
        super().__init__(id="fact")
        self.fact: Fact | None = None
        self._drawn: tuple[FactStory | None, date, date] | None = None
        self._pointed: FactKey | None = None

    def compose(self) -> ComposeResult:
        yield Panel(title="Fact", id="story-panel")
        yield Panel(
            Table(drawing.SHEET_COLUMNS, empty="no balance sheet for this fact", id="sheet"),
            title="Sheet",
            id="sheet-panel",
        )
        yield Panel(
            Table(drawing.VERSION_COLUMNS, empty="USDA has not published this fact", id="versions"),
            title="Versions published by USDA",
            id="versions-panel",
        )

    def show_fact(self, part: Part[Fact], today: date) -> None:
        """Draw a fact, or the failure that prevented reading it."""
        from tui.widgets.plot import LineChart

        panel = self.query_one("#story-panel", Panel)
        if not self.query(LineChart):
            panel.mount(LineChart())
        panel.show(part, lambda fact: self._draw_story(fact, today))
        self.query_one("#versions-panel", Panel).show(part, lambda fact: self._draw_versions(fact, today))
        self.query_one("#sheet-panel", Panel).show(part, self._draw_sheet)

    def _draw_story(self, fact: Fact, today: date) -> None:
        self.fact = fact
        title = drawing.story_title(fact.story) if fact.story else "Unknown fact"
        self.query_one("#story-panel", Panel).set_titles(title)
        if self._drawn != (fact.story, fact.day, today):
            self._drawn = (fact.story, fact.day, today)
            self.call_after_refresh(self._draw_chart, fact.story, fact.day, today)

    def _draw_chart(self, story: FactStory | None, day: date, today: date) -> None:
        from tui.widgets.plot import DayAxis, LineChart

        certain, uncertain = story_lines(story, today) if story else ([], [])
        self.query_one(LineChart).draw(certain, DayAxis(), dotted=uncertain, mark=float(day.toordinal()))

    def _draw_versions(self, fact: Fact, today: date) -> None:
        self.query_one("#versions", Table).show(drawing.version_rows(fact.story.versions if fact.story else (), today))

    def _draw_sheet(self, fact: Fact) -> None:
        self.query_one("#sheet-panel", Panel).set_titles(f"Balance sheet on {fact.day} beside today's")
        key = fact.story.key if fact.story else None
        drawn = drawing.sheet_key(key.attribute_id, fact.story.unit_name) if key and fact.story else ""
        table = self.query_one("#sheet", Table)
        table.show(drawing.sheet_rows(fact.sheet, drawn))
        if key != self._pointed:
            table.move_to(drawn)  # the cursor is on the fact of the chart, until the user moves it
        self._pointed = key


def story_lines(story: FactStory, today: date) -> tuple[list, list]:
    """Return chart lines: spans in which a value is certain, and spans in which another value may have been valid."""
    from tui.widgets.plot import Line

    certain: list[Line] = []
    uncertain: list[Line] = []
    for version in story.versions:
        ends = [*(piece.start for piece in version.pieces[1:]), version.valid_to or max(today, version.valid_from)]
        for piece, end in zip(version.pieces, ends, strict=True):
            start, stop = float(piece.start.toordinal()), float(min(end, version.valid_to or end).toordinal())
            if piece.certain:
                certain.append(Line((start, max(stop, start + 1)), (version.value,) * 2))
            elif start < stop:
                uncertain.append(Line((start, stop), (version.value,) * 2))
    return certain, uncertain

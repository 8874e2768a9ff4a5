"""The Releases screen: the changes of a release, and the history and balance sheet of a fact."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Final

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from dataflows.errors import MateriaError, SettingsError
from dataflows.source.probe_memory import LiveCheck
from ops.host.days import FORMS, parse_day
from ops.host.formatting import ago_text
from ops.pipelines.current_file import checked_on, last_check
from ops.pipelines.release_changes import FactKey, Order, revisions_sql
from ops.pipelines.release_summary import ReleaseSummary, summarize
from tui.releases import drawing, questions
from tui.releases.fact import FactView
from tui.releases.questions import CodeName
from tui.releases.snapshot import Changes, Fact, ReleasesSnapshot, Selection, read_releases
from tui.shell.actions import ActionSpec
from tui.shell.context import ConsoleContext
from tui.shell.messages import Navigation, OpenFact, OpenRelease, RunQuery
from tui.shell.polled import PolledPane
from tui.widgets.formatting import plural
from tui.widgets.lines import Lines
from tui.widgets.panel import Failure, Found, Panel, Part, attempt
from tui.widgets.picker import Choice, Picker
from tui.widgets.table import Table
from tui.widgets.tones import escape_markup

_NOTHING: Final = "nothing is served yet: run `materia run-all` or `materia demo`"
_NO_CHANGES: Final = "no changes"
_NO_MATCH: Final = "no change matches the filter; esc clears it"
_NO_BALANCES: Final = "no change of the newest two market years; choose a commodity in the list"
_NOT_COMPARED: Final = "? not compared with a WASDE report"
_REST_S: Final = 0.15
"""Delay after the last letter of a filter before the changes are read."""
_NO_SHEET: Final = "no sheet shown: press ⏎ on a revision, or p to pick a fact"
_UNREADABLE: Final = "cannot read the served data"
_ORDERS: Final[tuple[Order, ...]] = ("weight", "share", "size", "name")


@dataclass(frozen=True)
class _Question:
    """The inputs of a look: the selection, the served file, the day, and the last check."""

    selection: Selection
    served: tuple[int, ...]
    today: date
    check: LiveCheck | None
    """The last check of USDA's current file; certainty depends on it."""


@dataclass(frozen=True)
class _Answer:
    """A question and its snapshot; `age` is the displayed age of the generation."""

    question: _Question
    seen: ReleasesSnapshot
    age: str


class ReleasesPane(PolledPane):
    """Shows the changes of a release, and its world and main exporters; Enter on a change opens its fact."""

    class Summarized(Message):
        """The world and main exporters of a release were read."""

        def __init__(self, question: object, summary: Part[ReleaseSummary]) -> None:
            super().__init__()
            self.question, self.summary = question, summary

    PANE_ID = "releases"
    POLL_S = 1.0

    def __init__(self, context: ConsoleContext) -> None:
        super().__init__(context)
        self.selection = Selection()
        self._answer: _Answer | None = None
        self._listed: tuple[object, ...] | None = None
        self._was_fact_shown = False
        self._summary_question: tuple[object, ...] | None = None
        self._rest_timer: Timer | None = None

    @classmethod
    def actions(cls) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("releases.release", "b", "list", "Choose a release from the list"),
            ActionSpec("releases.pick", "p", "pick", "Pick a fact: commodity, country, market year, attribute"),
            ActionSpec(
                "releases.order",
                "o",
                "order",
                "Switch the order: share of world production, share of old value, size, name",
            ),
            ActionSpec("releases.view", "v", "view", "Switch between the changes and the world and main exporters"),
            ActionSpec("releases.filter", "slash", "find", "Show only changes that match words, groups or years"),
            ActionSpec("releases.unfold", "u", "unfold", "Show or hide the other changes of this balance sheet"),
            ActionSpec("releases.earlier", "comma", "earlier", "Show the sheet on an earlier day"),
            ActionSpec("releases.later", "full_stop", "later", "Show the sheet on a later day"),
            ActionSpec("releases.day", "d", "day", "Show the sheet on a day that you enter"),
            ActionSpec("releases.sql", "x", "sql", "Open the SQL of this view in the Query screen"),
            ActionSpec(
                "releases.back", "escape", "back", "Go back to the release, clear the filter, then all commodities"
            ),
        )

    def compose(self) -> ComposeResult:
        yield Lines(id="release-line", markup=False)
        with Container(id="changes"):
            yield Panel(
                Table(drawing.COMMODITY_COLUMNS, empty="", id="commodities"),
                title="Commodities",
                id="commodities-panel",
            )
            with Vertical(id="release-side"):
                yield Input(
                    placeholder="such as: brazil corn production 2024-2025   a group: EU27_UK   esc clears",
                    id="release-filter",
                    compact=True,
                )
                yield Panel(
                    Table(drawing.REVISION_COLUMNS, empty="", id="revisions"),
                    title="Revisions",
                    id="revisions-panel",
                )
                yield Panel(
                    Lines(id="wasde"),
                    Table(drawing.BALANCE_COLUMNS, empty="", id="balances"),
                    title="World and main exporters",
                    id="balances-panel",
                )
        yield FactView()
        yield Lines(id="legend", markup=False)
        yield Input(placeholder=FORMS, id="day")

    def on_show_pane(self) -> None:
        super().on_show_pane()
        if self._answer:
            # The answer may have arrived while the pane was hidden, when the focus could not be set.
            self.call_after_refresh(self.draw, self._answer)

    # Polling

    def look(self) -> _Answer | None:
        try:
            status = self.context.settings.serving_path.stat()
            served: tuple[int, ...] = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            served = ()
        settings = self.context.settings
        question = _Question(self.selection, served, self.context.clock().date(), last_check(settings))
        drawn = self._answer
        if drawn and drawn.question == question and not drawn.seen.has_failed:
            age = self._age_of(drawn.seen)
            return None if age == drawn.age else replace(drawn, age=age)
        checked = partial(checked_on, settings)
        found = attempt(lambda: read_releases(self.context.reader(), question.selection, question.today, checked))
        seen = found.value if isinstance(found, Found) else ReleasesSnapshot(question.selection, None, found, None)
        return _Answer(question, seen, self._age_of(seen))

    def _age_of(self, seen: ReleasesSnapshot) -> str:
        return ago_text(seen.generation.created_at, self.context.clock()) if seen.generation else ""

    def draw(self, answer: _Answer) -> None:
        snapshot = answer.seen
        if snapshot.selection != self.selection:
            return  # superseded by another selection
        self._answer = answer
        failed = [part for part in (snapshot.changes, snapshot.fact) if isinstance(part, Failure)]
        self.context.sightings.note(self.PANE_ID, failed[0] if failed else None, self.context.clock())
        self._draw_line(snapshot, answer.age)
        is_broken = isinstance(snapshot.changes, Failure)
        shown = snapshot.generation is not None or is_broken
        is_fact = shown and snapshot.fact is not None
        self.query_one("#changes").display = shown and not is_fact
        self.query_one("#fact").display = is_fact
        legend = drawing.STANDING_LEGEND if is_fact else drawing.KIND_LEGEND
        self.query_one("#legend", Lines).show(legend if shown else "")
        if not shown:
            return
        part = snapshot.changes
        # One panel is enough to show the error.
        self.query_one("#commodities-panel").display = not is_broken
        self.query_one("#commodities-panel", Panel).show(part, self._draw_commodities)
        self.query_one("#revisions-panel", Panel).show(part, self._draw_revisions)
        self.query_one("#balances-panel").set_class(is_broken, "-broken")
        if isinstance(part, Found) and part.value and not is_fact:
            self._summarize(snapshot, part.value)
        if snapshot.fact is not None:
            self.query_one(FactView).show_fact(snapshot.fact, self.context.clock().date())
        self._focus_inside(is_fact=is_fact)

    def _draw_line(self, seen: ReleasesSnapshot, age: str) -> None:
        line = self.query_one("#release-line", Lines)
        if seen.generation is None:
            line.show(_UNREADABLE if isinstance(seen.changes, Failure) else _NOTHING)
            return
        changes = seen.changes.value if isinstance(seen.changes, Found) else None
        summary = drawing.release_text(changes.release) if changes else "no releases"
        line.show(f"generation {seen.generation.number}, {age} · {summary}")

    def _draw_commodities(self, changes: Changes | None) -> None:
        rows = drawing.commodity_rows(changes.commodities if changes else ())
        self.query_one("#commodities", Table).show(rows, empty=_NO_CHANGES)

    def _draw_revisions(self, changes: Changes | None) -> None:
        selection = self.selection
        commodities = changes.commodities if changes else ()
        of = next((c.commodity_name for c in commodities if c.commodity_code == selection.commodity_code), "")
        table = self.query_one("#revisions", Table)
        listed = (changes and changes.release.released_on, selection.commodity_code, selection.order, selection.words)
        if changes is None:
            table.show((), empty=_NO_CHANGES)
        else:
            source = (*listed, selection.unfolded, self._generation_number)
            rows = drawing.revision_rows(changes.revisions, source, selection.unfolded)
            table.show(rows, empty=_NO_MATCH if selection.words else _NO_CHANGES)
            if rows and listed != self._listed:
                table.move_to(rows[0].key)  # a different list starts at its first row
        sheets = plural(len(table.rows) - self._unfolded_count(changes), "balance sheet")
        self.query_one("#revisions-panel", Panel).set_titles(
            f"{of or 'Revisions'}, {sheets}, {drawing.ORDERS[selection.order]}"
        )
        self._listed = listed

    def _unfolded_count(self, changes: Changes | None) -> int:
        """The number of rows that are not the first of their balance sheet."""
        if changes is None or not self.selection.unfolded:
            return 0
        import pyarrow.compute as pc

        return int(pc.sum(pc.greater(changes.revisions["place"], 1)).as_py() or 0)

    @property
    def _generation_number(self) -> int | None:
        generation = self._snapshot.generation if self._snapshot else None
        return generation.number if generation else None

    def _summarize(self, seen: ReleasesSnapshot, changes: Changes) -> None:
        """Read the world and main exporters, unless they are shown; it takes longer than the changes."""
        commodity = self.selection.commodity_code
        question = (seen.generation and seen.generation.number, changes.release.released_on, commodity)
        if question != self._summary_question:
            self._summary_question = question
            day = changes.release.released_on.isoformat()
            self.run_worker(partial(self._read_summary, question, day, commodity), thread=True, group="summary")

    def _read_summary(self, question: object, day: str, commodity: str | None) -> None:
        summary = attempt(lambda: summarize(self.context.reader(), day, commodity))
        self.post_message(self.Summarized(question, summary))

    @on(Summarized)
    def _draw_summary(self, message: Summarized) -> None:
        message.stop()
        if message.question == self._summary_question:  # else superseded by another commodity or release
            self.query_one("#balances-panel", Panel).show(message.summary, self._draw_balances)

    def _draw_balances(self, summary: ReleaseSummary) -> None:
        self.query_one("#wasde", Lines).show(escape_markup(summary.wasde) if summary.wasde else _NOT_COMPARED)
        self.query_one("#balances", Table).show(drawing.balance_rows(summary), empty=_NO_BALANCES)

    def _focus_inside(self, *, is_fact: bool) -> None:
        """When the view changes, focus its main table, unless the focus is outside this pane."""
        if is_fact == self._was_fact_shown or not self._in_view:
            return
        self._was_fact_shown = is_fact
        self.query_one("#day", Input).display = False
        focused = self.screen.focused
        if focused is None or self in focused.ancestors:
            shown = "#sheet" if is_fact else "#balances" if self.has_class("-balances") else "#revisions"
            self.call_after_refresh(self._focus_if_in_view, self.query_one(shown))

    def _focus_if_in_view(self, table: Widget) -> None:
        if self._in_view:
            table.focus()

    def _select(self, selection: Selection) -> None:
        if selection != self.selection:
            is_other_view = bool(selection.fact) != bool(self.selection.fact)
            self.selection = selection
            # Keys typed ahead are meant for the other view.
            self.look_again(awaited=is_other_view)

    def _of_release(self, day: date) -> Selection:
        return Selection(day, order=self.selection.order, words=self.selection.words)

    @property
    def _snapshot(self) -> ReleasesSnapshot | None:
        return self._answer.seen if self._answer else None

    @property
    def _changes(self) -> Changes | None:
        return self._snapshot.changes.value if self._snapshot and isinstance(self._snapshot.changes, Found) else None

    @property
    def _fact(self) -> Fact | None:
        """The shown fact, or None until the selected fact is shown."""
        part = self._snapshot.fact if self._snapshot and self._snapshot.selection.fact == self.selection.fact else None
        return part.value if isinstance(part, Found) else None

    # Navigation

    async def receive(self, message: Navigation) -> None:
        if isinstance(message, OpenRelease):
            self._select(self._of_release(message.released_on))
        elif isinstance(message, OpenFact):
            key = FactKey(
                message.commodity_code, message.country_code, message.market_year, message.attribute_id, message.unit_id
            )
            self._select(replace(self.selection, fact=key, day=None))

    @on(Table.Opened, "#commodities")
    def _open_commodity(self, message: Table.Opened) -> None:
        message.stop()
        self._select(replace(self.selection, commodity_code=None if message.key == drawing.ALL else message.key))
        self.query_one("#revisions", Table).focus()

    @on(Table.Opened, "#revisions")
    def _open_revision(self, message: Table.Opened) -> None:
        message.stop()
        self._select(replace(self.selection, fact=drawing.fact_of_row(message.key), day=None))

    @on(Table.Opened, "#sheet")
    def _open_attribute(self, message: Table.Opened) -> None:
        message.stop()
        if self.selection.fact:
            attribute_id = message.key.partition(" ")[0]
            self._select(
                replace(self.selection, fact=replace(self.selection.fact, attribute_id=attribute_id, unit_id=None))
            )

    @on(Table.Opened, "#versions")
    def _open_version(self, message: Table.Opened) -> None:
        message.stop()
        self._select(replace(self.selection, day=date.fromisoformat(message.key)))

    # Actions

    def action_release(self) -> None:
        if not self._changes:
            return
        choices = [Choice(str(r.released_on), drawing.release_text(r)) for r in self._changes.releases]

        def take(day: str | None) -> None:
            if day:
                self._select(self._of_release(date.fromisoformat(day)))

        chosen = str(self._changes.release.released_on)
        self.app.push_screen(Picker("Releases, newest first", choices, chosen), take)

    def action_view(self) -> None:
        """Show the world and main exporters, or the changes again; with room for both, go from one to the other."""
        if not self.selection.fact:
            self.toggle_class("-balances")
            table = self.query_one("#balances" if self.has_class("-balances") else "#revisions", Table)
            self.call_after_refresh(table.focus)

    def action_unfold(self) -> None:
        table = self.query_one("#revisions", Table)
        if table.current is None or self.selection.fact:
            return
        sheet = drawing.sheet_of_row(table.current.key)
        if sheet in self.selection.unfolded:
            table.move_to(next(row.key for row in table.rows if drawing.sheet_of_row(row.key) == sheet))
        self._select(replace(self.selection, unfolded=self.selection.unfolded ^ {sheet}))

    def action_filter(self) -> None:
        if not self.selection.fact:
            box = self.query_one("#release-filter", Input)
            box.display = True
            box.focus()

    @on(Input.Changed, "#release-filter")
    def _take_filter(self, message: Input.Changed) -> None:
        message.stop()
        if self._rest_timer is not None:
            self._rest_timer.stop()
        self._rest_timer = self.set_timer(_REST_S, lambda: self._filter(message.value))

    @on(Input.Submitted, "#release-filter")
    def _leave_filter(self, message: Input.Submitted) -> None:
        message.stop()
        self._filter(message.value)
        self.remove_class("-balances")
        self.query_one("#revisions", Table).focus()

    def _filter(self, words: str) -> None:
        if self._rest_timer is not None:
            self._rest_timer.stop()
        self._select(replace(self.selection, words=words.strip()))

    def action_order(self) -> None:
        at = _ORDERS.index(self.selection.order)
        self._select(replace(self.selection, order=_ORDERS[(at + 1) % len(_ORDERS)]))

    def has_use(self, verb: str) -> bool:
        selection = self.selection
        match verb:
            case "earlier" | "later" | "day":
                return selection.fact is not None
            case "view" | "unfold" | "filter" | "order":
                return selection.fact is None and self._changes is not None
            case "back":
                is_asking = any(self.query_one(name).display for name in ("#day", "#release-filter"))
                return is_asking or selection.fact is not None or selection.commodity_code is not None
        return selection.fact is not None or self._changes is not None

    def action_earlier(self) -> None:
        self._step(lambda day, now: day < now, -1)

    def action_later(self) -> None:
        self._step(lambda day, now: day > now, 0)

    def action_day(self) -> None:
        if not self.selection.fact:
            self.notify(_NO_SHEET)
            return
        field = self.query_one("#day", Input)
        field.display = True
        field.value = str(self._fact.day) if self._fact else ""
        field.focus()

    def action_back(self) -> None:
        field = self.query_one("#day", Input)
        if field.display:
            field.display = False
            self.query_one("#sheet", Table).focus()
        elif self.selection.fact:
            self._select(replace(self.selection, fact=None, day=None))
        elif (box := self.query_one("#release-filter", Input)).display:
            box.value, box.display = "", False
            self._filter("")
            self.query_one("#revisions", Table).focus()
        else:
            self._select(replace(self.selection, commodity_code=None))

    def action_sql(self) -> None:
        """Open the SQL of this view in the Query screen."""
        fact = self._fact
        if self.selection.fact:
            on_sheet = self.screen.focused is self.query_one("#sheet")
            checked = fact.checked_on if fact else None
            sql = questions.story_sql(self.selection.fact, checked)
            if on_sheet and fact:
                sql = questions.sheet_sql(self.selection.fact, fact.day, checked)
            self.post_message(RunQuery(sql))
        elif self._changes:
            day, asked = self._changes.release.released_on, self.selection
            self.post_message(RunQuery(revisions_sql(day, asked.order, asked.commodity_code, asked.words, most=None)))

    @work(group="pick", exclusive=True)
    async def action_pick(self) -> None:
        """Let the user choose commodity, country, market year and attribute in turn."""
        reader = self.context.reader
        old = self.selection.fact
        try:
            commodity = await self._choose(
                "Commodity", lambda: questions.commodities(reader()), old.commodity_code if old else None
            )
            country = commodity and await self._choose(
                "Country", lambda: questions.countries(reader(), commodity), old.country_code if old else None
            )
            year = country and await self._choose(
                "Market year",
                lambda: questions.market_years(reader(), commodity, country),
                str(old.market_year) if old else None,
            )
            attribute = year and await self._choose(
                "Attribute",
                lambda: questions.attributes(reader(), commodity, country, int(year)),
                old.attribute_id if old else "028",
            )
        except MateriaError as error:
            self.notify(str(error), severity="error")
            return
        if attribute:
            self._select(replace(self.selection, fact=FactKey(commodity, country, int(year), attribute), day=None))

    @on(Input.Submitted, "#day")
    def _take_day(self, event: Input.Submitted) -> None:
        event.stop()
        today = self.context.clock().date()
        try:
            day = parse_day(event.value, today)
        except SettingsError as error:
            self.notify(str(error), severity="warning")
            return
        if day > today:
            self.notify(f"{day} is in the future", severity="warning")
            return
        self.action_back()
        self._select(replace(self.selection, day=day))

    def _step(self, beyond: Callable[[date, date], bool], pick: int) -> None:
        """Step from the selected day, which may not be drawn yet."""
        if not self.selection.fact:
            self.notify(_NO_SHEET)
        if fact := self._fact:
            days = [day for day in fact.days if beyond(day, self.selection.day or fact.day)]
            if days:
                self._select(replace(self.selection, day=days[pick]))

    async def _choose(self, title: str, ask: Callable[[], Sequence[CodeName]], chosen: str | None) -> str:
        """Return the chosen code, empty when cancelled."""
        asked = asyncio.ensure_future(asyncio.to_thread(ask))
        self.call_next(asyncio.wait, (asked,))  # keys typed ahead wait until their list is shown
        named = await asked
        choices = [Choice(n.code, n.name, "" if n.code == n.name else n.code) for n in named]
        return await self.app.push_screen_wait(Picker(title, choices, chosen)) or ""

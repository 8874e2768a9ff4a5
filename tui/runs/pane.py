"""The Runs screen: the run history, one run in detail, and the actions that start and interrupt runs."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import Input

from ops.health.pipelines import PIPELINES
from ops.journal.history import History, RunStory
from ops.journal.run import RunStatus
from tui.runs import drawing
from tui.runs.detail import RunDetail
from tui.runs.snapshot import (
    ORDERS,
    Detail,
    Marks,
    RunFilter,
    RunsSnapshot,
    find_step_line,
    in_order,
    parse_filter,
    read_history,
    read_run,
    select_run,
)
from tui.shell.actions import ActionSpec
from tui.shell.child import CommandEnded, is_refused, offer
from tui.shell.choice import AS_OF, FORCE, ON, Choice, Option
from tui.shell.command import CommandScreen
from tui.shell.context import ConsoleContext
from tui.shell.messages import FollowRun, Navigation, OpenLog, OpenRun, StartPipeline
from tui.shell.polled import PolledPane
from tui.widgets.changes import change_marks
from tui.widgets.panel import Found, Panel
from tui.widgets.table import Row, Table

_REFRESH_S = 15
_CURSOR_REST_S = 0.15
"""Delay before the run under the cursor is read."""

_CONTINUES = "The run is a separate process and continues when the console is closed."
_OPTIONS = {
    "run-all": (AS_OF, ON, FORCE),
    "extract": (AS_OF, ON),
    "transform": (ON,),
    "export_serving": (ON, FORCE),
}
"""The options of each pipeline that have an effect on it."""
_FROM = Option("--from", "YYYY-MM, the first month", is_required=True)
_TO = Option("--to", "YYYY-MM, the last month", is_required=True)


class RunsPane(PolledPane):
    """Shows the history beside one run; Enter on a step opens its line in the log."""

    PANE_ID = "runs"

    def __init__(self, context: ConsoleContext) -> None:
        super().__init__(context)
        self._run_filter = RunFilter()
        self._order = next(iter(ORDERS))
        self._run_id: int | None = None
        self._selected_id: int | None = None
        self._seen: RunsSnapshot | None = None
        self._target_id: int | None = None
        self._started: tuple[int, int] | None = None
        self._rest_timer: Timer | None = None

    @classmethod
    def actions(cls) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("runs.start", "s", "start", "Start a pipeline, after confirmation", writes=True),
            ActionSpec("runs.backfill", "B", "backfill", "Land the releases of some months", writes=True, show=False),
            ActionSpec("runs.interrupt", "i", "interrupt", "Interrupt the shown run, after confirmation", writes=True),
            ActionSpec("runs.filter", "slash", "find", "Show only runs that match words, a pipeline or a status"),
            ActionSpec("runs.failed", "exclamation_mark", "failed", "Show only failed runs, or all runs"),
            ActionSpec("runs.order", "o", "order", "Switch the order: newest, longest or failed first"),
            ActionSpec("runs.graph", "v", "view", "Switch between the dataflow and the steps"),
            ActionSpec("runs.log", "l", "log", "Open the log of the run"),
            ActionSpec("runs.source", "c", "source", "Open the source of the step under the cursor", show=False),
            ActionSpec("runs.back", "escape", "back", "Go back to the list, then show all runs"),
            ActionSpec("runs.refresh", "r", "refresh", "Reload everything", show=False),
        )

    def compose(self) -> ComposeResult:
        with Vertical(id="history-side"):
            yield Input(
                placeholder="words, pipeline or status, such as: extract failed   esc clears",
                id="runs-filter",
                compact=True,
            )
            yield Panel(
                Table(drawing.HISTORY_COLUMNS, empty=drawing.NO_RUNS, id="history"), title="Runs", id="history-panel"
            )
        yield RunDetail(id="detail")

    def on_mount(self) -> None:
        self.query_one("#runs-filter").display = False

    def on_hide_pane(self) -> None:
        super().on_hide_pane()
        self.workers.cancel_group(self, "search")

    # Polling

    def look(self) -> RunsSnapshot | None:
        now, run_filter, run_id, seen = self.context.clock(), self._run_filter, self._run_id, self._seen
        order = self._order
        marks = Marks((change_marks(self.context.settings), run_filter, order), int(now.timestamp()) // _REFRESH_S)
        known = seen.marks if seen is not None and not self._is_anything_running else None
        if seen is not None and known is not None and marks.content == known.content:
            story = self._story
            if marks == known and story is not None and story.run.id == run_id:
                return None
            history = seen.history
        else:
            history = read_history(self.context, run_filter)
            if isinstance(history, Found):
                history = Found(in_order(history.value, order))
        if seen is not None and marks == known:
            rows = seen.rows
        else:
            rows = drawing.history_rows(history.value, now) if isinstance(history, Found) else ()
        if run_id is None or self._is_new_filter(run_filter):
            run_id = select_run(history, self._selected_id)
        return RunsSnapshot(run_filter, order, history, rows, read_run(self.context, run_id), marks)

    def _is_new_filter(self, run_filter: RunFilter) -> bool:
        """Whether the filter has not been drawn yet."""
        return self._seen is not None and self._seen.run_filter != run_filter

    @property
    def _is_anything_running(self) -> bool:
        story, history = self._story, self._seen.history if self._seen else None
        runs = [*(history.value.runs if isinstance(history, Found) else ()), *([story.run] if story else [])]
        return any(run.status is RunStatus.RUNNING for run in runs)

    @property
    def _story(self) -> RunStory | None:
        """The run that was read last."""
        detail = self._seen.detail if self._seen else None
        return detail.value.story if isinstance(detail, Found) else None

    def draw(self, snapshot: RunsSnapshot) -> None:
        if (snapshot.run_filter, snapshot.order) != (self._run_filter, self._order):
            return  # superseded by another filter or order
        if self._is_new_filter(snapshot.run_filter):
            detail = snapshot.detail
            self._run_id = self._target_id = detail.value.story.run.id if isinstance(detail, Found) else None
        self._seen = snapshot
        self.query_one("#history-panel", Panel).show(
            snapshot.history, lambda history: self._draw_history(history, snapshot.rows)
        )
        if snapshot.detail is None:
            self.query_one("#detail").display = False
            return
        self.query_one("#detail").display = True
        self.query_one("#facts-panel", Panel).show(snapshot.detail, self._draw_detail)
        self.POLL_S = 1.0 if self._is_anything_running else 2.0

    def _draw_history(self, history: History, rows: Sequence[Row]) -> None:
        table = self.query_one("#history", Table)
        self.query_one("#history-panel", Panel).set_titles(f"Runs, {self._order}")
        nothing = drawing.NO_RUNS if self._run_filter == RunFilter() else drawing.NO_MATCHES
        table.show(rows, empty=nothing)
        if self._target_id is not None:
            table.move_to(str(self._target_id))
            self._target_id = None
        if (started := self._find_started_run(history)) is not None:
            self._show_run(started)

    def _draw_detail(self, detail: Detail) -> None:
        if self._run_id in (None, detail.story.run.id):  # else superseded by another selection
            self._run_id = detail.story.run.id
            self.query_one(RunDetail).show(detail, self.context.clock(), self.context.settings.data_dir)

    # Selection

    @on(Table.Moved, "#history")
    def _moved(self, message: Table.Moved) -> None:
        if message.row is not None and message.by_user:
            self._choose(int(message.row.key))

    def _choose(self, run_id: int) -> None:
        """Select a run, and read it once the cursor rests."""
        self._pick(run_id)
        self._rest_timer = self.set_timer(_CURSOR_REST_S, self.look_again)

    def _show_run(self, run_id: int) -> None:
        """Select a run and read it now, whether or not it is in the history; keys wait for it."""
        self._pick(run_id)
        if not self.query_one("#history", Table).move_to(str(run_id)):
            self._target_id = run_id
        self.look_again(awaited=True)

    def _pick(self, run_id: int) -> None:
        self._cancel_pending()
        self._run_id = self._selected_id = run_id

    def _cancel_pending(self) -> None:
        """Cancel what was going to be shown, because another run was selected."""
        self._target_id = self._started = None
        if self._rest_timer is not None:
            self._rest_timer.stop()

    def _selected_run(self) -> RunStory | None:
        """Return the selected run, reading it now if necessary, so that keys need not wait for the cursor to rest."""
        seen, story = self._seen, self._story
        if seen is not None and self._run_id is not None and (story is None or story.run.id != self._run_id):
            self.draw(replace(seen, detail=read_run(self.context, self._run_id)))
            story = self._story
        return story if story is not None and story.run.id == self._run_id else None

    async def receive(self, message: Navigation) -> None:
        if isinstance(message, OpenRun):
            self._show_run(message.run_id)
        elif isinstance(message, FollowRun):
            self._follow(message)
        elif isinstance(message, StartPipeline):
            self._ask_to_start(message.pipeline)

    @on(Table.Opened, "#history")
    def _open_detail(self, message: Table.Opened) -> None:
        message.stop()
        self._pick(int(message.key))
        self._selected_run()
        self.query_one(RunDetail).focus_steps()

    @on(Table.Opened, "#steps")
    def _open_step(self, message: Table.Opened) -> None:
        message.stop()
        kind, _, rest = message.key.partition("/")
        if kind == "run":
            self._show_run(int(rest))
        elif (path := self._log_path()) is not None:
            current = message.table.current
            failed = current is not None and current.cells[0].tone == "bad"
            self._open_log_at(path, self._run_id, rest.rpartition("/")[0], failed=failed)

    def has_use(self, verb: str) -> bool:
        story = self._story
        match verb:
            case "interrupt":
                return story is not None and story.run.status is RunStatus.RUNNING
            case "log":
                return story is not None and story.run.log_path is not None
            case "graph":
                return story is not None
            case "back":
                return self._is_in_a_run or self.query_one("#runs-filter").display
            case "filter" | "failed" | "order":
                return self._run_filter != RunFilter() or bool(self._seen and self._seen.rows)
        return True

    # Filtering

    def action_filter(self) -> None:
        box = self.query_one("#runs-filter", Input)
        box.display = True
        box.focus()

    def action_failed(self) -> None:
        box = self.query_one("#runs-filter", Input)
        box.value = "" if self._run_filter.status is RunStatus.FAILED else RunStatus.FAILED
        box.display = bool(box.value)

    def action_order(self) -> None:
        orders = tuple(ORDERS)
        self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        self.look_again(awaited=True)

    @on(Input.Changed, "#runs-filter")
    def _on_filter_changed(self, message: Input.Changed) -> None:
        message.stop()
        self._run_filter = parse_filter(message.value, frozenset(PIPELINES) | {"backfill"})
        self._cancel_pending()
        self.look_again(awaited=True)

    @on(Input.Submitted, "#runs-filter")
    def _on_filter_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self._selected_id = self._run_id
        self.query_one("#history", Table).focus()

    def action_back(self) -> None:
        """Go back from a run to the history; in the history, clear the filter."""
        box = self.query_one("#runs-filter", Input)
        if box.display and not self._is_in_a_run:
            box.value = ""
            box.display = False
        self.query_one("#history", Table).focus()

    @property
    def _is_in_a_run(self) -> bool:
        focused = self.app.screen_stack[0].focused
        return focused is not None and self.query_one(RunDetail) in focused.ancestors_with_self

    # Navigation

    def action_graph(self) -> None:
        self.query_one(RunDetail).toggle_graph(self._selected_run(), self.context.clock())

    def action_refresh(self) -> None:
        self._forget_marks()
        self.look_again()

    def _forget_marks(self) -> None:
        """Make the next look read everything again."""
        if self._seen is not None:
            self._seen = replace(self._seen, marks=None)

    def action_source(self) -> None:
        from tui.widgets.source import SourceScreen, find_step

        row = self.query_one(RunDetail).step
        place = find_step(row.cells[1].text.strip()) if row else None
        if place is None:
            self.notify("no source: the cursor is on no step that has a function; ⏎ goes to the steps")
        else:
            self.app.push_screen(SourceScreen(place))

    def action_log(self) -> None:
        """Open the log: of a failed run at its first error, of others at the end."""
        story, path = self._selected_run(), self._log_path()
        if path is None or story is None:
            return
        if story.run.status in (RunStatus.FAILED, RunStatus.DIED):
            self._open_log_at(path, self._run_id, "", failed=True)
        else:
            self.post_message(OpenLog(path, self._run_id))

    def _log_path(self) -> Path | None:
        """Return the log of the selected run; without one, notify the user and return None."""
        story = self._selected_run()
        if story is None or story.run.log_path is None:
            self.notify("this run has no log", severity="warning")
            return None
        return Path(story.run.log_path)

    @work(group="search", exclusive=True)
    async def _open_log_at(self, path: Path, run_id: int | None, step: str, *, failed: bool) -> None:
        try:
            line = await asyncio.to_thread(find_step_line, path, step, failed=failed)
        except OSError as error:
            self.notify(f"{path.name}: {error.strerror}", severity="warning")
        else:
            self.post_message(OpenLog(path, run_id, line))

    # Starting and interrupting

    def action_start(self) -> None:
        story = self._selected_run()
        self._ask_to_start(story.run.pipeline if story and story.run.pipeline in PIPELINES else PIPELINES[0])

    def _ask_to_start(self, pipeline: str) -> None:
        choices = [Choice(name, ("pipeline", "run", name), _OPTIONS.get(name, ())) for name in PIPELINES]
        first = PIPELINES.index(pipeline) if pipeline in PIPELINES else 0
        offer(self, "Start a pipeline", choices, _CONTINUES, first)

    def action_backfill(self) -> None:
        choice = Choice("backfill", ("backfill",), (_FROM, _TO, FORCE))
        offer(
            self,
            "Land every release of some months",
            [choice],
            f"Landed releases are not downloaded again. {_CONTINUES}",
        )

    def _follow(self, message: FollowRun) -> None:
        self._cancel_pending()
        self._started = message.pid, message.newest_id
        self.query_one("#history", Table).focus()
        self._forget_marks()
        self.set_timer(0.5, self.look_again)

    def _find_started_run(self, history: History) -> int | None:
        """Return the id of the run started here. The id must be newer, since pids are reused."""
        pid, after = self._started or (None, 0)
        return next((run.id for run in history.runs if run.pid == pid and run.id > after), None)

    def action_interrupt(self) -> None:
        story = self._selected_run()
        if story is None or story.run.status is not RunStatus.RUNNING:
            self.notify("this run is not running", severity="warning")
            return
        run = story.run
        if run.host != os.uname().nodename:
            self.notify(f"this run is on {run.host}: interrupt it there", severity="warning")
            return

        def on_answer(arguments: tuple[str, ...] | None) -> None:
            if arguments is not None and not is_refused(self) and not run.process.interrupt():
                self.notify(f"run {run.id} has ended, or belongs to another user", severity="warning")
            self.action_refresh()

        choice = Choice(f"run {run.id}", ("-INT", str(run.pid)), program="kill")
        note = f"{run.pipeline} stops at once. Landed data is kept, and the current generation stays served."
        self.app.push_screen(CommandScreen("Interrupt a run", [choice], note=note), on_answer)

    @on(CommandEnded)
    def _on_command_ended(self) -> None:
        self.action_refresh()  # the application shows how it ended

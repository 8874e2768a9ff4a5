"""The screen Runs: what ran and how it went, one run in full, and everything that starts or ends one."""

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

from ops.health.status import PIPELINES
from ops.host.launch import command_text
from ops.journal.history import History, RunStory
from ops.journal.run import RunStatus
from tui.runs import drawing
from tui.runs.detail import RunDetail
from tui.runs.snapshot import Detail, RunsSeen, Wanted, among, line_of_step, look_at_history, look_at_run, parse_wanted
from tui.shell.actions import ActionSpec
from tui.shell.child import CommandEnded, start
from tui.shell.command import Choice, CommandScreen
from tui.shell.context import ConsoleContext
from tui.shell.messages import Navigation, OpenLog, OpenRun, StartPipeline
from tui.shell.polled import PolledPane
from tui.widgets.changes import traces
from tui.widgets.formatting import shortened
from tui.widgets.panel import Found, Panel
from tui.widgets.table import Row, Table

_ROUND_S = 15
_SETTLED_S = 0.15
"""How long the cursor rests on a run before that run is looked at."""


class RunsPane(PolledPane):
    """The history beside one run in full; Enter on a step goes to its line in the log."""

    PANE_ID = "runs"
    TITLE = "Runs"
    KEY = "2"

    def __init__(self, context: ConsoleContext) -> None:
        super().__init__(context)
        self._wanted = Wanted()
        self._run_id: int | None = None
        self._picked_id: int | None = None
        self._seen: RunsSeen | None = None
        self._sought_id: int | None = None
        self._started: tuple[int, int] | None = None
        self._settling: Timer | None = None

    def actions(self) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("runs.start", "s", "start", "Start a pipeline; shows the command and asks first", writes=True),
            ActionSpec("runs.interrupt", "i", "interrupt", "Interrupt the shown run; asks first", writes=True),
            ActionSpec("runs.filter", "slash", "filter", "Filter by words, a pipeline's name or a status"),
            ActionSpec("runs.failed", "x", "failed", "Show only what failed, or everything again"),
            ActionSpec("runs.graph", "d", "dag", "Show the dataflow of the run, or its steps again"),
            ActionSpec("runs.log", "l", "log", "Open the log of the run"),
            ActionSpec("runs.source", "o", "source", "Open the function behind the step under the cursor", show=False),
            ActionSpec("runs.refresh", "r", "refresh", "Look at everything again", show=False),
        )

    def compose(self) -> ComposeResult:
        with Vertical(id="history-side"):
            yield Input(placeholder="words, extract, failed …   esc clears", id="runs-filter", compact=True)
            yield Panel(
                Table(drawing.HISTORY_COLUMNS, empty=drawing.NO_RUNS, id="history"), title="Runs", id="history-panel"
            )
        yield RunDetail(id="detail")

    def on_mount(self) -> None:
        self.query_one("#runs-filter").display = False

    def on_hide_pane(self) -> None:
        super().on_hide_pane()
        self.workers.cancel_group(self, "search")

    # Looking

    def look(self) -> RunsSeen | None:
        now, wanted, run_id, seen = self.context.clock(), self._wanted, self._run_id, self._seen
        marks = traces(self.context.settings), int(now.timestamp()) // _ROUND_S, wanted
        if seen is not None and marks == seen.marks and not self._is_anything_running:
            story = self._story
            if story is not None and story.run.id == run_id:
                return None
            history, rows = seen.history, seen.rows
        else:
            history = look_at_history(self.context, wanted)
            rows = drawing.history_rows(history.value, now) if isinstance(history, Found) else ()
        if run_id is None or self._is_newly(wanted):
            run_id = among(history, self._picked_id)
        return RunsSeen(wanted, history, rows, look_at_run(self.context, run_id), marks)

    def _is_newly(self, wanted: Wanted) -> bool:
        """Whether a filter has not been drawn yet."""
        return self._seen is not None and self._seen.wanted != wanted

    @property
    def _is_anything_running(self) -> bool:
        story, history = self._story, self._seen.history if self._seen else None
        runs = [*(history.value.runs if isinstance(history, Found) else ()), *([story.run] if story else [])]
        return any(run.status is RunStatus.RUNNING for run in runs)

    @property
    def _story(self) -> RunStory | None:
        """The run that was looked at last."""
        detail = self._seen.detail if self._seen else None
        return detail.value.story if isinstance(detail, Found) else None

    def draw(self, snapshot: RunsSeen) -> None:
        if snapshot.wanted != self._wanted:
            return  # overtaken by another filter
        if self._is_newly(snapshot.wanted):
            detail = snapshot.detail
            self._run_id = self._sought_id = detail.value.story.run.id if isinstance(detail, Found) else None
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
        nothing = drawing.NO_RUNS if self._wanted == Wanted() else drawing.NONE_LIKE_THAT
        table.show(rows, empty=nothing)
        if self._sought_id is not None:
            table.move_to(str(self._sought_id))
            self._sought_id = None
        if (started := self._started_among(history)) is not None:
            self._show_run(started)

    def _draw_detail(self, detail: Detail) -> None:
        if self._run_id in (None, detail.story.run.id):  # else overtaken by another choice
            self._run_id = detail.story.run.id
            self.query_one(RunDetail).show(detail, self.context.clock(), self.context.settings.data_dir)

    # Choosing

    @on(Table.Moved, "#history")
    def _moved(self, message: Table.Moved) -> None:
        if message.row is not None and message.by_person:
            self._choose(int(message.row.key))

    def _choose(self, run_id: int) -> None:
        """Look at a run once the cursor has come to rest."""
        self._pick(run_id)
        self._settling = self.set_timer(_SETTLED_S, self.look_again)

    def _show_run(self, run_id: int) -> None:
        """Look at a run now, in the history or not; keys wait for it."""
        self._pick(run_id)
        if not self.query_one("#history", Table).move_to(str(run_id)):
            self._sought_id = run_id
        self.look_again(awaited=True)

    def _pick(self, run_id: int) -> None:
        self._leave_off()
        self._run_id = self._picked_id = run_id

    def _leave_off(self) -> None:
        """Somebody wants to see another run: what was to be shown before no longer is."""
        self._sought_id = self._started = None
        if self._settling is not None:
            self._settling.stop()

    def _chosen(self) -> RunStory | None:
        """The run that was chosen last: a key that does something with it need not wait until the cursor is at rest."""
        seen, story = self._seen, self._story
        if seen is not None and self._run_id is not None and (story is None or story.run.id != self._run_id):
            self.draw(replace(seen, detail=look_at_run(self.context, self._run_id)))
            story = self._story
        return story if story is not None and story.run.id == self._run_id else None

    async def receive(self, message: Navigation) -> None:
        if isinstance(message, OpenRun):
            self._show_run(message.run_id)
        elif isinstance(message, StartPipeline):
            self._ask_to_start(message.pipeline)

    @on(Table.Opened, "#history")
    def _into_detail(self, message: Table.Opened) -> None:
        message.stop()
        self._pick(int(message.key))
        self._chosen()
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

    # Filtering

    def action_filter(self) -> None:
        box = self.query_one("#runs-filter", Input)
        box.display = True
        box.focus()

    def action_failed(self) -> None:
        box = self.query_one("#runs-filter", Input)
        box.value = "" if self._wanted.status is RunStatus.FAILED else RunStatus.FAILED
        box.display = bool(box.value)

    @on(Input.Changed, "#runs-filter")
    def _filter_changed(self, message: Input.Changed) -> None:
        message.stop()
        self._wanted = parse_wanted(message.value, frozenset(PIPELINES) | {"backfill"})
        self._leave_off()
        self.look_again(awaited=True)

    @on(Input.Submitted, "#runs-filter")
    def _filter_done(self, message: Input.Submitted) -> None:
        message.stop()
        self._picked_id = self._run_id
        self.query_one("#history", Table).focus()

    def key_escape(self) -> None:
        """Back: out of a run to the history, or out of the filter, which it clears."""
        box = self.query_one("#runs-filter", Input)
        is_in_a_run = self.app.focused is not None and self.query_one(RunDetail) in self.app.focused.ancestors_with_self
        if box.display and not is_in_a_run:
            box.value = ""
            box.display = False
        self.query_one("#history", Table).focus()

    # Going on from here

    def action_graph(self) -> None:
        self.query_one(RunDetail).toggle_graph(self._chosen(), self.context.clock())

    def action_refresh(self) -> None:
        self._forget_marks()
        self.look_again()

    def _forget_marks(self) -> None:
        """Have the next look take in everything, whether it seems to have changed or not."""
        if self._seen is not None:
            self._seen = replace(self._seen, marks=None)

    def action_source(self) -> None:
        from tui.widgets.source import SourceScreen, place_of_step

        row = self.query_one(RunDetail).step
        place = place_of_step(row.cells[1].text.strip()) if row else None
        if place is None:
            self.notify("no step with a function of its own is under the cursor; ⏎ goes to the steps")
        else:
            self.app.push_screen(SourceScreen(place))

    def action_log(self) -> None:
        if (path := self._log_path()) is not None:
            self.post_message(OpenLog(path, self._run_id))

    def _log_path(self) -> Path | None:
        """The log of the run that was chosen last; without one, that is told."""
        story = self._chosen()
        if story is None or story.run.log_path is None:
            self.notify("this run kept no log", severity="warning")
            return None
        return Path(story.run.log_path)

    @work(group="search", exclusive=True)
    async def _open_log_at(self, path: Path, run_id: int | None, step: str, *, failed: bool) -> None:
        try:
            line = await asyncio.to_thread(line_of_step, path, step, failed=failed)
        except OSError as error:
            self.notify(f"{path.name}: {error.strerror}", severity="warning")
        else:
            self.post_message(OpenLog(path, run_id, line))

    # Acting

    def action_start(self) -> None:
        story = self._chosen()
        self._ask_to_start(story.run.pipeline if story and story.run.pipeline in PIPELINES else PIPELINES[0])

    def _ask_to_start(self, pipeline: str) -> None:
        if self.context.read_only:
            self.notify("read-only: nothing is started from here", severity="warning")
            return
        commands = [("pipeline", "run", name) for name in PIPELINES]
        choices = [Choice(name, command_text(command)) for name, command in zip(PIPELINES, commands, strict=True)]
        note = "It runs as a process of its own and goes on when the console is closed."

        def answered(choice: int | None) -> None:
            launched = start(self, commands[choice], self.context.settings) if choice is not None else None
            if launched is not None:
                self._leave_off()
                self._started = launched.process.pid, self._newest_id()
                self.query_one("#history", Table).focus()
                self._forget_marks()
                self.set_timer(0.5, self.look_again)

        first = PIPELINES.index(pipeline) if pipeline in PIPELINES else 0
        self.app.push_screen(CommandScreen("Start a pipeline", choices, note=note, first=first), answered)

    def _newest_id(self) -> int:
        history = self._seen.history if self._seen else None
        return max((run.id for run in history.value.runs), default=0) if isinstance(history, Found) else 0

    def _started_among(self, history: History) -> int | None:
        """The run that was started from here; an older one may have had the same pid."""
        pid, after = self._started or (None, 0)
        return next((run.id for run in history.runs if run.pid == pid and run.id > after), None)

    def action_interrupt(self) -> None:
        story = self._chosen()
        if story is None or story.run.status is not RunStatus.RUNNING:
            self.notify("this run is not running", severity="warning")
            return
        run = story.run
        if run.host != os.uname().nodename:
            self.notify(f"it runs on {run.host}: interrupt it there", severity="warning")
            return

        def answered(choice: int | None) -> None:
            if choice is not None and not run.process.interrupt():
                self.notify(f"run {run.id} has ended, or belongs to another user", severity="warning")
            self.action_refresh()

        choice = Choice(f"run {run.id}", f"kill -INT {run.pid}")
        note = f"{run.pipeline} stops at once; what it has landed stays, and the old generation stays served."
        self.app.push_screen(CommandScreen("Interrupt a run", [choice], note=note), answered)

    @on(CommandEnded)
    def _ended(self, message: CommandEnded) -> None:
        message.stop()
        self.notify(
            shortened(message.said) or "done",
            title=message.command,
            severity="information" if message.exit_code == 0 else "error",
        )
        self.action_refresh()

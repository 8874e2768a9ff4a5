"""The Overview screen: alerts (worst first), the served generation, pipelines, supervisor and workers."""

from dataclasses import replace
from datetime import datetime

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll

from ops.health.status import Problem, Status
from tui.overview import drawing
from tui.overview.snapshot import Overview, Pipelines, read_overview
from tui.shell import workers_summary
from tui.shell.actions import ActionSpec
from tui.shell.messages import OpenRun, OpenWorkers, StartPipeline
from tui.shell.polled import PolledPane
from tui.shell.workers_summary import REAP
from tui.widgets.changes import change_marks
from tui.widgets.lines import Lines
from tui.widgets.panel import Failure, Found, Panel
from tui.widgets.table import Table

_REFRESH_S = 15
"""How often relative times are refreshed while nothing changes."""


class OverviewPane(PolledPane):
    """Shows the whole system; Enter on a row opens its details."""

    PANE_ID = "overview"

    _overview: Overview | None = None
    _problems: tuple[Problem, ...] = ()

    def actions(self) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("overview.fix", "f", "fix worst", "Go to the fix for the worst alert"),
            ActionSpec("overview.refresh", "r", "refresh", "Reload everything", show=False),
        )

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Panel(Table(drawing.ALERT_COLUMNS, id="alerts"), title="Alerts", id="alerts-panel")
            yield Panel(Lines(id="served"), title="Served", id="served-panel")
            yield Panel(Table(drawing.PIPELINE_COLUMNS, id="pipelines"), title="Pipelines", id="pipelines-panel")
            with Horizontal(id="machines"):
                yield Panel(Lines(id="supervisor"), title="Supervisor", id="supervisor-panel")
                yield Panel(Lines(id="workers-summary"), title="Workers", id="workers-panel")

    def on_show_pane(self) -> None:
        if self._overview is None:
            # Draw the status in the first frame: reading it costs less than drawing a second frame.
            self.draw(read_overview(self.context, self._marks()))
        super().on_show_pane()

    # Polling

    def _marks(self) -> tuple[object, ...]:
        """Return values that change whenever the snapshot may have changed."""
        now = self.context.clock()
        seen = self.context.workers.latest(now), self.context.sightings.problems
        return change_marks(self.context.settings), seen, int(now.timestamp()) // _REFRESH_S

    def look(self) -> Overview | None:
        seen, marks = self._overview, self._marks()
        if seen is not None and marks == seen.marks and not drawing.is_anything_running(seen):
            return None
        return read_overview(self.context, marks)

    def draw(self, snapshot: Overview) -> None:
        now = self.context.clock()
        self._overview = snapshot
        self.query_one("#alerts-panel", Panel).show(
            snapshot.status, lambda _: self._draw_alerts(drawing.problems(snapshot, now), now)
        )
        self.query_one("#served-panel", Panel).show(
            snapshot.status, lambda status: self._draw_served(status, snapshot, now)
        )
        self.query_one("#pipelines-panel", Panel).show(
            snapshot.status, lambda status: self._draw_pipelines(status, snapshot, now)
        )
        self.query_one("#supervisor-panel", Panel).show(
            snapshot.heartbeat, lambda beat: self.query_one("#supervisor", Lines).show(drawing.heartbeat(beat, now))
        )
        self.query_one("#workers-panel", Panel).show(
            workers_summary.panel_part(snapshot.workers),
            lambda seen: self.query_one("#workers-summary", Lines).show(workers_summary.summary(seen, now)),
        )

    def _draw_alerts(self, problems: tuple[Problem, ...], now: datetime) -> None:
        self._problems = problems
        self.query_one("#alerts", Table).show(drawing.alert_rows(problems, now), empty=drawing.ALL_IS_WELL)

    def _draw_served(self, status: Status, snapshot: Overview, now: datetime) -> None:
        served = self.query_one("#served", Lines)
        served.show(drawing.served(status, now, is_readable=drawing.is_readable(status, snapshot)))
        served.tooltip = drawing.served_exactly(status) or None

    def _draw_pipelines(self, status: Status, snapshot: Overview, now: datetime) -> None:
        found = snapshot.pipelines
        more = found.value if isinstance(found, Found) else Pipelines({}, {})
        self.query_one("#pipelines", Table).show(drawing.pipeline_rows(status, more, now))

    # Navigation and actions

    @on(Table.Opened, "#alerts")
    def _open_alert(self, message: Table.Opened) -> None:
        message.stop()
        problem = next((each for each in self._problems if drawing.alert_key(each) == message.key), None)
        if problem is not None:
            self._go_to(problem)
        else:
            self.notify("this alert is resolved")

    @on(Table.Opened, "#pipelines")
    def _open_pipeline(self, message: Table.Opened) -> None:
        message.stop()
        run_id = drawing.last_run_id(self._overview, message.key) if self._overview else None
        if run_id is not None:
            self.post_message(OpenRun(run_id))
        elif not self.context.read_only:
            self.post_message(StartPipeline(message.key))
        else:
            self.notify(f"{message.key} never ran; materia pipeline run {message.key}")

    def action_fix(self) -> None:
        if self._problems:
            self._go_to(self._problems[0])
        elif self._overview is not None and isinstance(self._overview.status, Failure):
            self.notify(self._overview.status.next_step, title=self._overview.status.what)
        else:
            self.notify("all is well: nothing to fix")

    def action_refresh(self) -> None:
        if self._overview is not None:
            self._overview = replace(self._overview, marks=None)
        self.context.workers.ask_again()
        self.look_again()

    def _go_to(self, problem: Problem) -> None:
        if problem.run_id is not None:
            self.post_message(OpenRun(problem.run_id))
        elif problem.next_step.startswith("materia run-all") and not self.context.read_only:
            self.post_message(StartPipeline("run-all"))
        elif problem.next_step == REAP:
            self.post_message(OpenWorkers())
        else:
            self.notify(problem.next_step, title=problem.what)

"""The Overview screen: alerts (worst first), the served generation, pipelines, supervisor and workers."""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll

from ops.health.problem import Problem
from tui.overview import drawing
from tui.overview.snapshot import NewestLog, Overview, Pipelines, read_overview, read_pipelines
from tui.shell.actions import ActionSpec
from tui.shell.child import offer
from tui.shell.choice import Choice
from tui.shell.messages import OpenRun, StartPipeline
from tui.shell.polled import PolledPane
from tui.widgets.changes import change_marks
from tui.widgets.lines import Lines
from tui.widgets.panel import Failure, Found, Panel, attempt
from tui.widgets.table import Table

if TYPE_CHECKING:
    from ops.health.status import Status

_REFRESH_S = 15
"""How often relative times are refreshed while nothing changes."""

_LOG_LINES = 6
"""The least number of lines of the log."""
_NOTE_S = 20.0
"""How long the next step of an alert is shown."""


class _LogPanel(Panel):
    """Takes the height that the other panels leave, which changes with what they show."""

    def on_resize(self) -> None:
        for each in self.ancestors:
            if isinstance(each, OverviewPane):
                each.fill_log()


class OverviewPane(PolledPane):
    """Shows the whole system; Enter on a row opens its details."""

    PANE_ID = "overview"

    _overview: Overview | None = None
    _problems: tuple[Problem, ...] = ()

    @classmethod
    def actions(cls) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("overview.fix", "f", "fix", "Fix the alert under the cursor, after confirmation", writes=True),
            ActionSpec("overview.roll_back", "U", "roll back", "Serve another generation", writes=True),
            ActionSpec("overview.verify", "V", "verify", "Check stored files for damage", writes=True, show=False),
            ActionSpec(
                "overview.doctor", "H", "doctor", "Check settings, tools and connections", writes=True, show=False
            ),
            ActionSpec("overview.refresh", "r", "refresh", "Reload everything", show=False),
        )

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Panel(
                Table(drawing.ALERT_COLUMNS, empty=drawing.READING, id="alerts"),
                Lines(id="alert-text"),
                title="Alerts",
                id="alerts-panel",
            )
            yield Panel(
                Lines(drawing.READING, id="served"),
                Lines(id="headline", markup=False),
                title="Served",
                id="served-panel",
            )
            yield Panel(Table(drawing.PIPELINE_COLUMNS, id="pipelines"), title="Pipelines", id="pipelines-panel")
            with Horizontal(id="machines"):
                yield Panel(Lines(drawing.READING, id="supervisor"), title="Supervisor", id="supervisor-panel")
                yield Panel(Lines(drawing.READING, id="workers-summary"), title="Workers", id="workers-panel")
            yield _LogPanel(Lines(id="log"), title="Log", id="log-panel")

    def on_show_pane(self) -> None:
        if self._overview is None:
            self.draw(read_pipelines(self.context))
            # Reading the other parts in a thread would delay the first frame.
            self.call_after_refresh(self._read_the_rest)
        else:
            super().on_show_pane()

    def _read_the_rest(self) -> None:
        if self.display:  # still the shown pane
            super().on_show_pane()

    # Polling

    def _marks(self) -> tuple[object, ...]:
        """Return values that change whenever the snapshot may have changed."""
        now = self.context.clock()
        sightings = self.context.sightings.problems(self.context.settings.serving_path)
        seen = self.context.workers.latest(now), sightings, self.context.releases.latest(self.context.settings)
        return change_marks(self.context.settings), seen, int(now.timestamp()) // _REFRESH_S

    def look(self) -> Overview | None:
        seen, marks = self._overview, self._marks()
        if seen is not None and marks == seen.marks and not drawing.is_anything_running(seen):
            return None
        return read_overview(self.context, marks)

    def draw(self, snapshot: Overview) -> None:
        now = self.context.clock()
        self._overview = snapshot
        self.query_one("#pipelines-panel", Panel).show(
            snapshot.pipelines, lambda pipelines: self._draw_pipelines(pipelines, now)
        )
        if snapshot.status is None:
            return
        self.query_one("#alerts-panel", Panel).show(
            snapshot.status, lambda _: self._draw_alerts(drawing.problems(snapshot, now), now)
        )
        self.query_one("#served-panel", Panel).show(
            snapshot.status, lambda status: self._draw_served(status, snapshot, now)
        )
        if snapshot.heartbeat is not None:
            self.query_one("#supervisor-panel", Panel).show(
                snapshot.heartbeat,
                lambda beat: self.query_one("#supervisor", Lines).show(
                    f"{drawing.heartbeat(beat, now)}\n{drawing.machine(snapshot)}"
                ),
            )
        if snapshot.log is not None:
            self.query_one("#log-panel", Panel).show(snapshot.log, self._draw_log)
        if snapshot.workers is not None:
            from tui.shell import workers_summary

            self.query_one("#workers-panel", Panel).show(
                workers_summary.panel_part(snapshot.workers),
                lambda seen: self.query_one("#workers-summary", Lines).show(workers_summary.summary(seen, now)),
            )

    def _draw_alerts(self, problems: tuple[Problem, ...], now: datetime) -> None:
        self._problems = problems
        self.set_class(bool(problems), "-has-alerts")
        self.query_one("#alerts", Table).show(drawing.alert_rows(problems, now), empty=drawing.ALL_IS_WELL)
        self._draw_alert_text()

    @on(Table.Moved, "#alerts")
    def _draw_alert_text(self) -> None:
        """Show the alert under the cursor in full: its cause must survive a narrow terminal."""
        current = self.query_one("#alerts", Table).current
        text = self.query_one("#alert-text", Lines)
        text.show(drawing.alert_text(self._find_problem(current.key) if current else None))
        text.display = current is not None

    def _draw_log(self, log: NewestLog | None) -> None:
        from tui.widgets.log_tail import tail_text

        panel = self.query_one("#log-panel", Panel)
        panel.set_titles(f"Log {log.name}" if log else "Log")
        room = max(_LOG_LINES, panel.content_size.height)  # in a high terminal the panel takes what is left
        self.query_one("#log", Lines).show(tail_text(log.lines, room, names_run=True) if log else "no log yet")

    def fill_log(self) -> None:
        """Show as many lines as the log's panel has room for."""
        if self._overview and isinstance(self._overview.log, Found):
            self._draw_log(self._overview.log.value)

    def _draw_served(self, status: "Status", snapshot: Overview, now: datetime) -> None:
        served = self.query_one("#served", Lines)
        served.show(drawing.served(status, now, is_readable=drawing.is_readable(status, snapshot)))
        headline = self.query_one("#headline", Lines)
        headline.show("\n".join(snapshot.release.parts) if snapshot.release else "")
        headline.display = bool(snapshot.release and snapshot.release.parts)
        served.tooltip = drawing.served_exactly(status) or None

    def _draw_pipelines(self, pipelines: Pipelines, now: datetime) -> None:
        self.query_one("#pipelines", Table).show(drawing.pipeline_rows(pipelines, now))

    # Navigation and actions

    @on(Table.Opened, "#alerts")
    def _open_alert(self, message: Table.Opened) -> None:
        message.stop()
        problem = self._find_problem(message.key)
        if problem is None:
            self.notify("this alert is resolved")
        elif problem.run_id is not None:
            self.post_message(OpenRun(problem.run_id))
        else:
            self._offer_fix(problem)

    def _find_problem(self, key: str) -> Problem | None:
        return next((each for each in self._problems if drawing.alert_key(each) == key), None)

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

    def has_use(self, verb: str) -> bool:
        seen = self._overview
        match verb:
            case "fix":
                return bool(self._problems) or (seen is not None and isinstance(seen.status, Failure))
            case "roll_back":
                return seen is not None and seen.can_roll_back == Found(True)
        return True

    def action_fix(self) -> None:
        """Offer the fix of the alert under the cursor."""
        current = self.query_one("#alerts", Table).current
        problem = self._find_problem(current.key) if current else None
        if problem is not None:
            self._offer_fix(problem)
        elif self._overview is not None and isinstance(self._overview.status, Failure):
            self.notify(self._overview.status.next_step, title=self._overview.status.what)
        else:
            self.notify("all is well: nothing to fix")

    def _offer_fix(self, problem: Problem) -> None:
        """Offer the command that solves a problem; without one, or in read-only mode, show the next step."""
        if not problem.command or self.context.read_only:
            self.notify(f"next: {problem.next_step}", title=problem.what, timeout=_NOTE_S)
            return
        choice = Choice("fix", problem.command)
        offer(self, "Fix an alert", [choice], f"{problem.what}\n\nnext: {problem.next_step}")

    def action_roll_back(self) -> None:
        from dataflows.serving.store import ServingStore

        store = ServingStore(self.context.settings.serving_path)
        kept = attempt(lambda: (store.served_number(), store.generations()[::-1]))
        if isinstance(kept, Failure):
            self.notify(kept.next_step, title=kept.what, severity="error")
            return
        served, generations = kept.value
        choices = [
            Choice(f"release of {each.newest_released_on}", ("serving", "rollback", str(each.number)))
            for each in generations
            if each.number != served
        ]
        if choices:
            offer(self, "Serve another generation", choices, "Readers see it at once. A new release ends the rollback.")
        else:
            self.notify("no other generation is kept", severity="warning")

    def action_verify(self) -> None:
        choices = [
            Choice("everything", ("scrub",)),
            Choice("what is served", ("serving", "verify")),
            Choice("what is landed", ("landing", "verify")),
        ]
        offer(self, "Verify stored files", choices, "Reads stored files and compares them with their recorded hashes.")

    def action_doctor(self) -> None:
        offer(self, "Check this machine", [Choice("doctor", ("doctor",))], "Checks settings, tools and connections.")

    def action_refresh(self) -> None:
        if self._overview is not None:
            self._overview = replace(self._overview, marks=None)
        self.context.workers.ask_again()
        self.look_again()

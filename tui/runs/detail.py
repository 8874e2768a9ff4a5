"""Shows one run: its facts, error, steps or dataflow, the end of its log, and its traceback."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from dataflows.lakehouse.transform import PROJECT_DIR
from ops.journal.history import RunStory
from ops.journal.run import RunStatus
from ops.pipelines.dag import Dag, dag_of
from tui.runs import drawing
from tui.runs.snapshot import Detail
from tui.widgets.lines import Lines
from tui.widgets.log_tail import tail_text
from tui.widgets.panel import Found, Panel
from tui.widgets.table import Row, Table

_LOG_LINES = 12
"""Least number of shown log lines; in a high terminal they fill the panel."""
_DAGS: Mapping[str, tuple[tuple[str, str | None], ...]] = {
    "extract": (("extract", None),),
    "transform": (("export", "lakehouse_pushed"),),
    "export_serving": (("export", "generations_synced"),),
    "publish_iceberg": (("export", None),),
    "run-all": (("extract", None), ("export", None)),
    "backfill": (("export", None),),
}
"""The dataflows that a pipeline runs, each with the node at which it stops, None for its final one."""


def dags_of(pipeline: str) -> tuple[Dag, ...]:
    """Return the dataflows of a pipeline, empty if it has none."""
    return tuple(dag_of(name, final) for name, final in _DAGS.get(pipeline, ()))


@cache
def model_count() -> int:
    """Return the number of SQLMesh models that a transform executes."""
    return sum(1 for _ in (PROJECT_DIR / "models").rglob("*.sql"))


class RunDetail(VerticalScroll):
    """The panels of one run; panels without content are hidden."""

    _shown_id: int | None = None

    def compose(self) -> ComposeResult:
        yield Panel(Lines(id="facts"), title="Run", id="facts-panel")
        yield Panel(Lines(id="error"), title="Error", id="error-panel")
        yield Panel(Table(drawing.STEP_COLUMNS, empty=drawing.NO_STEPS, id="steps"), title="Steps", id="steps-panel")
        yield Panel(Lines(id="graph"), title="Dataflow", id="graph-panel")
        yield Panel(Lines(id="log-tail"), title="Log", id="log-panel")
        yield Panel(Lines(id="traceback"), title="Traceback", id="traceback-panel")

    def on_mount(self) -> None:
        for name in ("graph", "error", "traceback"):
            self.query_one(f"#{name}-panel").display = False

    def show(self, detail: Detail, now: datetime, data_dir: Path) -> None:
        """Draw a run with its durations at `now`."""
        story = detail.story
        if story.run.id != self._shown_id:
            self._reset(story.run.id)
        self.query_one("#facts-panel", Panel).set_titles(f"Run {story.run.id}", drawing.times_text(story.run))
        facts = drawing.facts(story, now, data_dir)
        if story.run.status is RunStatus.RUNNING and isinstance(detail.log, Found):
            facts += f"\n{progress}" if (progress := drawing.progress_text(detail.log.value, model_count())) else ""
        self.query_one("#facts", Lines).show(facts)
        for name, text in (("error", drawing.error_text(story)), ("traceback", drawing.traceback_text(story))):
            self.query_one(f"#{name}-panel").display = bool(text)
            self.query_one(f"#{name}", Lines).show(text)
        self._show_steps(story, now)
        self.query_one("#log-panel", Panel).show(
            detail.log,
            lambda lines: self.query_one("#log-tail", Lines).show(
                tail_text(lines, max(_LOG_LINES, self.size.height - 4))
            ),
        )

    def _reset(self, run_id: int) -> None:
        """Prepare for another run: clear the old log and scroll to the top."""
        self._shown_id = run_id
        self.query_one("#log-tail", Lines).show("")
        if not self.query_one("#graph-panel").display:
            self.scroll_home(animate=False, immediate=True)

    def toggle_graph(self, story: RunStory | None, now: datetime) -> None:
        """Switch between the steps and the dataflow."""
        graph, steps = self.query_one("#graph-panel"), self.query_one("#steps-panel")
        table = self.query_one("#steps", Table)
        # A hidden widget cannot have the focus, and without focus no key works.
        if table.has_focus:
            self.focus(scroll_visible=False)
        elif self.has_focus and graph.display:
            self.call_after_refresh(table.focus, scroll_visible=False)
        graph.display, steps.display = not graph.display, graph.display
        self.call_after_refresh((graph if graph.display else steps).scroll_visible, animate=False, top=True)
        if story is not None:
            self._show_steps(story, now)

    @property
    def step(self) -> Row | None:
        """The step under the cursor."""
        return self.query_one("#steps", Table).current

    def focus_steps(self) -> None:
        """Focus the steps, with the cursor on the first failed one, or the dataflow if that is shown."""
        if self.query_one("#graph-panel").display:
            self.focus()
            return
        steps = self.query_one("#steps", Table)
        failed = [row.key for row in steps.rows if row.cells[0].tone == "bad"]
        broken = next((key for key in failed if not key.startswith("run/")), next(iter(failed), None))
        if broken is not None:
            steps.move_to(broken)
        steps.focus()

    def _show_steps(self, story: RunStory, now: datetime) -> None:
        if self.query_one("#graph-panel").display:
            text = drawing.graph_text(dags_of(story.run.pipeline), drawing.node_states(story, now))
            self.query_one("#graph", Lines).show(text or f"{story.run.pipeline} has no dataflow")
        self.query_one("#steps", Table).show(drawing.step_rows(story, now))

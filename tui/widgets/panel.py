"""A titled panel that shows its own errors, so that one failing part does not affect the rest of the screen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from dataflows.errors import MateriaError
from tui.widgets.lines import Lines
from tui.widgets.table import Table
from tui.widgets.tones import toned

T = TypeVar("T")

_CURSOR_REST_S = 0.15
"""Delay before the exact times of the row under the cursor are shown."""


@dataclass(frozen=True)
class Failure:
    """A one-line error and the next step."""

    what: str
    next_step: str


@dataclass(frozen=True)
class Found(Generic[T]):
    """A value that was read successfully."""

    value: T


Part = Found[T] | Failure


def attempt(look: Callable[[], T]) -> Part[T]:
    """Call `look` and return Found, or Failure if it raises anything."""
    try:
        return Found(look())
    except Exception as error:
        return failure_of(error)


def failure_of(error: Exception) -> Failure:
    """Convert an error to a Failure: redacted, with the next step that its message names."""
    from ops.host.redact import Redactor

    redact = Redactor.from_environ()
    if isinstance(error, MateriaError):
        what, _, next_step = str(error).rpartition("; ")
        return Failure(redact(what or next_step), redact(next_step if what else "materia doctor"))
    return Failure(redact(f"unexpected {type(error).__name__}: {error}"), "materia doctor, and report it")


class Panel(Vertical):
    """A border with a title around its children; the subtitle shows the exact times of the current row."""

    _rest_timer: Timer | None = None

    def __init__(self, *children: Widget, title: str, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self._inside = children
        self._titles = ("", "")
        self.set_titles(title)

    def compose(self) -> ComposeResult:
        yield Lines(classes="failure")
        yield from self._inside

    def show(self, part: "Part[T]", draw: Callable[[T], None]) -> None:
        """Draw a found value. A Failure, also one in `draw`, is shown above the last content."""
        drawn = attempt(lambda: draw(part.value)) if isinstance(part, Found) else part
        failure_lines = self.query_one(".failure", Lines)
        if isinstance(drawn, Failure):
            failure_lines.show(f"{toned('✗ ' + drawn.what, 'bad')}\n{toned('  next: ' + drawn.next_step, 'quiet')}")
        failure_lines.display = isinstance(drawn, Failure)

    def set_titles(self, title: str, subtitle: str = "") -> None:
        """Set title and subtitle without interpreting markup; unchanged titles are not redrawn."""
        before, self._titles = self._titles, (title, subtitle)
        if title != before[0]:
            self.border_title = Content(title)
        if subtitle != before[1]:
            self.border_subtitle = Content(subtitle)

    @on(Table.Moved)
    def _moved(self, message: Table.Moved) -> None:
        if self._rest_timer is not None:
            self._rest_timer.stop()
        # A new subtitle redraws the whole panel, so wait until the cursor rests.
        self._rest_timer = self.set_timer(_CURSOR_REST_S, lambda: self._show_exact_times(message.table))

    def _show_exact_times(self, table: Table) -> None:
        row = table.current
        self.border_subtitle = Content(row.exact if row and table.has_focus else "")

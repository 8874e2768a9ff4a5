"""A panel: a titled part of a screen whose trouble stays its own."""

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
from ops.host.redact import Redactor
from tui.widgets.lines import Lines
from tui.widgets.table import Table
from tui.widgets.tones import toned

T = TypeVar("T")

_SETTLED_S = 0.15
"""How long a cursor rests on a row before that row's exact times are shown."""


@dataclass(frozen=True)
class Failure:
    """Why something could not be looked up, in a line, and what to do next."""

    what: str
    next_step: str


@dataclass(frozen=True)
class Found(Generic[T]):
    """What was looked up."""

    value: T


Part = Found[T] | Failure


def attempt(look: Callable[[], T]) -> Part[T]:
    """What `look` finds, or why it can't: no error of one part of a screen goes further than this."""
    try:
        return Found(look())
    except Exception as error:
        return failure_of(error)


def failure_of(error: Exception) -> Failure:
    """An error in a redacted line, and the next step that its message names."""
    redact = Redactor.from_environ()
    if isinstance(error, MateriaError):
        what, _, next_step = str(error).rpartition("; ")
        return Failure(redact(what or next_step), redact(next_step if what else "materia doctor"))
    return Failure(redact(f"unexpected {type(error).__name__}: {error}"), "materia doctor, and report it")


class Panel(Vertical):
    """A border with a title around one widget or several; what a row's times are exactly stands below."""

    _settling: Timer | None = None

    def __init__(self, *children: Widget, title: str, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self._inside = children
        self._titles = ("", "")
        self.entitle(title)

    def compose(self) -> ComposeResult:
        yield Lines(classes="trouble")
        yield from self._inside

    def show(self, part: "Part[T]", draw: Callable[[T], None]) -> None:
        """Draw what was found; trouble, also with the drawing, becomes a line above what was drawn last."""
        drawn = attempt(lambda: draw(part.value)) if isinstance(part, Found) else part
        trouble = self.query_one(".trouble", Lines)
        if isinstance(drawn, Failure):
            trouble.show(f"{toned('✗ ' + drawn.what, 'bad')}\n{toned('  next: ' + drawn.next_step, 'quiet')}")
        trouble.display = isinstance(drawn, Failure)

    def entitle(self, title: str, subtitle: str = "") -> None:
        """Give it other titles, shown as they are; what stands there already is not drawn again."""
        before, self._titles = self._titles, (title, subtitle)
        if title != before[0]:
            self.border_title = Content(title)
        if subtitle != before[1]:
            self.border_subtitle = Content(subtitle)

    @on(Table.Moved)
    def _moved(self, message: Table.Moved) -> None:
        if self._settling is not None:
            self._settling.stop()
        # A border drawn anew draws what is inside it anew: not at every step of a cursor on its way.
        self._settling = self.set_timer(_SETTLED_S, lambda: self._say_exactly(message.table))

    def _say_exactly(self, table: Table) -> None:
        row = table.current
        self.border_subtitle = Content(row.exact if row and table.has_focus else "")

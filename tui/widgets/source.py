"""What stands behind a line of a log or a step: the file of ours that it names, shown where it is named.

Only Python and SQL of this project: a log may say whatever it likes, and is no way to other files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from tui.widgets.lines import Lines
from tui.widgets.tones import toned

PROJECT = Path(__file__).resolve().parents[2]
_ROOMS = ("dataflows", "ops", "transform", "tui")
_DATAFLOWS = ("dataflows/extract.py", "dataflows/export.py")
_SQL_FOLDERS = "transform/sqlmesh_materia"

_AT_LINE = re.compile(r'(?:File "|\b)([\w./-]+\.(?:py|sql))"?(?:, line |:)(\d+)')
_MODEL = re.compile(r"\b(?:raw|staging|cleaned|serving)\W{1,3}(\w+)")
_STEP = re.compile(r"(?<!\S)step=(\w+)")
_NAME = re.compile(r"\b[a-z]+(?:_+[a-z]+)+\b")


@dataclass(frozen=True)
class Place:
    """A line (from 1) of a file."""

    path: Path
    line: int

    @property
    def text(self) -> str:
        return f"{self.path.relative_to(PROJECT)}:{self.line}"


def place_of(text: str) -> Place | None:
    """The file that a line names: by path and line, by a model or an audit, else by the step it speaks of."""
    return next(_places(text), None)


def place_of_step(step: str) -> Place | None:
    """The function of the dataflows that computes a step."""
    for name in _DATAFLOWS:
        path = PROJECT / name
        for number, line in enumerate(_lines(path), 1):
            if line.startswith(f"def {step}("):
                return Place(path, number)
    return None


def _places(text: str) -> Iterator[Place]:
    for name, number in reversed(_AT_LINE.findall(text)):
        if path := _ours(name):
            yield Place(path, int(number))
    sql = {path.stem: path for path in sorted((PROJECT / _SQL_FOLDERS).glob("[am]*/**/*.sql"))}
    yield from (Place(sql[name], 1) for name in (*_MODEL.findall(text), *_NAME.findall(text)) if name in sql)
    if step := _STEP.search(text):
        place = place_of_step(step[1])
        yield from (place,) if place else ()


def _ours(name: str) -> Path | None:
    """The project's file of that path, or of that bare name."""
    if "/" not in name:
        found = [path for room in _ROOMS for path in (PROJECT / room).rglob(name)]
        return found[0] if len(found) == 1 else None
    path = (PROJECT / name).resolve()
    return path if path.is_file() and any(path.is_relative_to(PROJECT / room) for room in _ROOMS) else None


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


class SourceScreen(ModalScreen[None]):
    """A file, its line in the middle."""

    BINDINGS: ClassVar = [("escape,q,o", "dismiss", "Close")]

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog source") as dialog:
            dialog.border_title = self._place.text
            dialog.border_subtitle = "esc closes"
            yield Lines()

    def on_mount(self) -> None:
        numbered = enumerate(_lines(self._place.path), 1)
        self.query_one(Lines).show("\n".join(self._drawn(number, line) for number, line in numbered))
        self.call_after_refresh(self._to_line)

    def _to_line(self) -> None:
        view = self.query_one(VerticalScroll)
        view.scroll_to(y=max(self._place.line - view.size.height // 2, 0), animate=False)

    def _drawn(self, number: int, line: str) -> str:
        here = number == self._place.line
        mark = "▶" if here else " "
        return toned(f"{mark}{number:>4} ", "quiet") + toned(line, "strong" if here else "")

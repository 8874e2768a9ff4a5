"""Finds and shows the source file behind a log line or a step.

Only Python and SQL files of this project are shown, for any path in a log line.
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
_SOURCE_FOLDERS = ("dataflows", "ops", "transform", "tui")
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


def find_place(text: str) -> Place | None:
    """Find the source of a log line: by path and line number, by model or audit name, else by step name."""
    return next(_find_places(text), None)


def find_step(step: str) -> Place | None:
    """Find the dataflow function of a step."""
    for name in _DATAFLOWS:
        path = PROJECT / name
        for number, line in enumerate(_read_lines(path), 1):
            if line.startswith(f"def {step}("):
                return Place(path, number)
    return None


def _find_places(text: str) -> Iterator[Place]:
    for name, number in reversed(_AT_LINE.findall(text)):
        if path := _project_file(name):
            yield Place(path, int(number))
    sql = {path.stem: path for path in sorted((PROJECT / _SQL_FOLDERS).glob("[am]*/**/*.sql"))}
    yield from (Place(sql[name], 1) for name in (*_MODEL.findall(text), *_NAME.findall(text)) if name in sql)
    if step := _STEP.search(text):
        place = find_step(step[1])
        yield from (place,) if place else ()


def _project_file(name: str) -> Path | None:
    """Return the project file with that path, or with that file name if it is unique."""
    if "/" not in name:
        found = [path for room in _SOURCE_FOLDERS for path in (PROJECT / room).rglob(name)]
        return found[0] if len(found) == 1 else None
    path = (PROJECT / name).resolve()
    return path if path.is_file() and any(path.is_relative_to(PROJECT / room) for room in _SOURCE_FOLDERS) else None


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


class SourceScreen(ModalScreen[None]):
    """Shows a file, scrolled to a line."""

    BINDINGS: ClassVar = [("escape,q,o", "dismiss", "Close")]

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog source") as dialog:
            dialog.border_title = self._place.text
            dialog.border_subtitle = "esc close"
            yield Lines()

    def on_mount(self) -> None:
        numbered = enumerate(_read_lines(self._place.path), 1)
        self.query_one(Lines).show("\n".join(self._line_markup(number, line) for number, line in numbered))
        self.call_after_refresh(self._scroll_to_line)

    def _scroll_to_line(self) -> None:
        view = self.query_one(VerticalScroll)
        view.scroll_to(y=max(self._place.line - view.size.height // 2, 0), animate=False)

    def _line_markup(self, number: int, line: str) -> str:
        here = number == self._place.line
        mark = "▶" if here else " "
        return toned(f"{mark}{number:>4} ", "quiet") + toned(line, "strong" if here else "")

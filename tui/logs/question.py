"""The line below a log: what is hidden and searched for in it, or a question in its place."""

from collections.abc import Callable
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.message import Message
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input, Static

from tui.logs.times import FORMS

_QUESTIONS = {
    "search": "search for a text, or /an expression/",
    "hide": "show only lines with a text, or /an expression/; empty shows all",
    "run_only": "show only the lines of a run: its number; empty shows all",
    "time": f"go to {FORMS}",
    "line": "go to the line of a number",
}
_FACTS, _PROMPT = "logs-filter", "logs-prompt"


class QuestionLine(ContentSwitcher):
    """One line for both, and always there: a question, its answer and its end leave the log where it is."""

    @dataclass
    class Answered(Message):
        """What was typed; the question stays until it is told to `leave`."""

        question: str
        text: str

    def __init__(self) -> None:
        super().__init__(initial=_FACTS, id="logs-line")
        self._question = ""

    def compose(self) -> ComposeResult:
        yield Static(id=_FACTS, markup=False)
        yield Input(id=_PROMPT, compact=True)

    @property
    def is_asking(self) -> bool:
        return self.current == _PROMPT

    def say(self, facts: str) -> None:
        """Say it where no question stands."""
        # It is one line high whatever it says: nothing needs to be laid out anew.
        self.query_one(f"#{_FACTS}", Static).update(facts, layout=False)

    def ask(self, question: str) -> None:
        """Show one of the questions, and give it the keys."""
        self._question = question
        self._prompt.placeholder, self._prompt.value = _QUESTIONS[question], ""
        self.current = _PROMPT
        self._give_keys_to(self._prompt)

    def leave(self, keys_to: Widget, then: Callable[[], None]) -> None:
        """Give the keys back, take the question away, and then go on: one picture after the other.

        All in one would halt the keys; and beside processes that look through gigabytes painting takes twice as long.
        """
        self._give_keys_to(keys_to)
        self.call_after_refresh(self._take_away, then)

    def _take_away(self, then: Callable[[], None]) -> None:
        # By now somebody may be asking the next one. The prompt's own `has_focus` may be a message behind.
        if self.screen.focused is not self._prompt:
            self.current = _FACTS
        self.call_after_refresh(then)

    @property
    def _prompt(self) -> Input:
        return self.query_one(f"#{_PROMPT}", Input)

    def _give_keys_to(self, widget: Widget) -> None:
        # At once, not a turn of the loop later as `Widget.focus`: whether the question has the keys is asked soon.
        self.screen.set_focus(widget)

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.post_message(self.Answered(self._question, message.value.strip()))

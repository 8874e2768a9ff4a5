"""The line below a log: shows the filter and the search, or a prompt for input."""

from collections.abc import Callable
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.message import Message
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input, Static

from tui.logs.times import FORMS

_QUESTIONS = {
    "search": "search for a text or a /regular expression/",
    "hide": "show only lines with a text or a /regular expression/; empty shows all",
    "run_only": "show only the lines of a run number; empty shows all",
    "time": f"go to {FORMS}",
    "line": "go to a line number",
}
_FACTS, _PROMPT = "logs-filter", "logs-prompt"


class PromptLine(ContentSwitcher):
    """Switches between facts and prompt on the same line, so that the log never moves."""

    @dataclass
    class Answered(Message):
        """The submitted text; the prompt stays open until `leave` is called."""

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
        """Show the facts when no prompt is open."""
        # Always one line high, so no new layout is needed.
        self.query_one(f"#{_FACTS}", Static).update(facts, layout=False)

    def ask(self, question: str) -> None:
        """Open the prompt for a question and focus it."""
        self._question = question
        self._prompt.placeholder, self._prompt.value = _QUESTIONS[question], ""
        self.current = _PROMPT
        self._set_focus(self._prompt)

    def leave(self, keys_to: Widget, then: Callable[[], None]) -> None:
        """Focus `keys_to`, hide the prompt, then call `then`, each after the previous step was painted.

        One combined update would block key input, since painting is slow while scan processes use the CPU.
        """
        self._set_focus(keys_to)
        self.call_after_refresh(self._hide_prompt, then)

    def _hide_prompt(self, then: Callable[[], None]) -> None:
        # The next prompt may be open by now. Do not use the prompt's `has_focus`, which is updated later.
        if self.screen.focused is not self._prompt:
            self.current = _FACTS
        self.call_after_refresh(then)

    @property
    def _prompt(self) -> Input:
        return self.query_one(f"#{_PROMPT}", Input)

    def _set_focus(self, widget: Widget) -> None:
        # `Widget.focus` would set the focus one loop iteration later; `_hide_prompt` checks it before that.
        self.screen.set_focus(widget)

    @on(Input.Submitted)
    def _on_line_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.post_message(self.Answered(self._question, message.value.strip()))

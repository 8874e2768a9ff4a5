"""The SQL editor: `textual-textarea` with SQL's colours, completing from the served catalog."""

from collections.abc import Callable
from typing import Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual_textarea import TextEditor
from textual_textarea.messages import TextAreaHideCompletionList
from textual_textarea.text_editor import TextAreaPlus

from tui.query.catalog import Catalog, Item

_FILES = frozenset({"save", "load"})
"""What the library's editor does with files; the console's own keys take their place."""


class SqlEditor(TextEditor):
    """A place to write SQL. Escape leaves it."""

    DEFAULT_CSS: ClassVar[str] = "SqlEditor CompletionList { background: $panel; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False, priority=True)]

    class Left(Message):
        """Escape was pressed, and no list of completions was open to take it."""

    def __init__(self, text: str = "", **names: Any) -> None:
        super().__init__(
            language="sql",
            text=text,
            use_system_clipboard=False,
            path_completer=None,
            word_completer=self._words,
            member_completer=self._members,
            **names,
        )
        self.catalog = Catalog({})
        self._prefix: str | None = None
        """What is to be completed now; None when no list is wanted."""

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda theme: setattr(self, "theme", theme.name))
        self._theme = self.app.theme
        super().on_mount()

    @property
    def statement(self) -> str:
        """The selected text, else all of it."""
        return self.selected_text.strip() or self.text.strip()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _FILES:
            return False
        if action == "leave":
            return self.text_input is not None and self.text_input.completer_active is None
        return super().check_action(action, parameters)

    def action_leave(self) -> None:
        self.post_message(self.Left())

    def replace_all(self, text: str) -> None:
        """Put `text` in place of everything, so that undo brings the old text back."""
        area = self.text_input
        if area is not None:
            area.replace(text, area.document.start, area.document.end, maintain_selection_offset=False)
            area.history.checkpoint()

    # Keys may arrive many at once, as they do over SSH. The library then forgets that it was asked after it was told to
    # hide its list, and asks us from threads that come to run in any order: lists of an earlier key would stay.

    @on(TextAreaPlus.ShowCompletionList)
    def _asked(self, message: TextAreaPlus.ShowCompletionList) -> None:
        self._prefix = message.prefix
        if self.text_input is not None and self.text_input.completer_active is None:
            self.text_input.completer_active = "member" if "." in message.prefix else "word"

    @on(TextAreaHideCompletionList)
    def _asked_no_more(self) -> None:
        self._prefix = None

    def _words(self, prefix: str) -> list[Item]:
        return self._newest(self.catalog.words)

    def _members(self, prefix: str) -> list[Item]:
        return self._newest(lambda now: self.catalog.members(now, self.text))

    def _newest(self, complete: Callable[[str], list[Item]]) -> list[Item]:
        """Completions of what has been typed by now; none of a name that is whole, so that Enter breaks the line."""
        items: list[Item] = []
        prefix = None
        while prefix != self._prefix:
            prefix = self._prefix
            items = complete(prefix) if prefix is not None else []
        return [] if any(written.lower() == (prefix or "").lower() for _, written in items) else items

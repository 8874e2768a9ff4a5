"""The SQL editor: `textual-textarea` with SQL highlighting and completion from the served catalog."""

from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Label
from textual_textarea import TextEditor
from textual_textarea.autocomplete import CompletionList
from textual_textarea.containers import FooterContainer, TextContainer
from textual_textarea.messages import TextAreaHideCompletionList
from textual_textarea.text_editor import TextAreaPlus

from tui.query.catalog import Catalog, Item

_FILES = frozenset({"save", "load"})
"""The library's file actions, which are disabled because the console uses their keys."""
_LIST_KEYS = frozenset({"enter", "tab", "shift+tab", "up", "down", "pageup", "pagedown"})


class SqlEditor(TextEditor):
    """The SQL editor; Escape leaves it.

    Over SSH several keys can arrive at once. The library computes completions in threads and sends Enter to its list
    even if the list is stale, so that Enter could insert a name instead of a line break. Here the list is computed at
    once for the word at the cursor, and receives keys only while it is open.
    """

    DEFAULT_CSS: ClassVar[str] = "SqlEditor CompletionList { background: $panel; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False, priority=True)]

    completion_list: "_Completions"
    text_input: "_Text | None"

    class Left(Message):
        """Escape was pressed while no completion list was open."""

    def __init__(self, text: str = "", **names: Any) -> None:
        super().__init__(language="sql", text=text, use_system_clipboard=False, path_completer=None, **names)
        self.catalog = Catalog()

    def compose(self) -> ComposeResult:
        # As in the library, except for the text and the list.
        self.completion_list = _Completions()
        self.text_input = _Text(self.completion_list, text=self._initial_text)
        # The constructor and the mount would each compile the language's highlighting query: a tenth of a second.
        self.text_input.language = self._language
        self.text_container = TextContainer()
        self.footer = FooterContainer(classes="hide")
        self.footer_label = Label("", id="textarea__save_open_input_label")
        with self.text_container:
            yield self.text_input
            yield self.completion_list
        with self.footer:
            yield self.footer_label

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda theme: setattr(self, "theme", theme.name))
        self._theme = self.app.theme
        super().on_mount()

    @property
    def statement(self) -> str:
        """The selected text, else the whole text."""
        return self.selected_text.strip() or self.text.strip()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _FILES:
            return False
        if action == "leave":
            return not self.completion_list.is_open
        return super().check_action(action, parameters)

    def action_leave(self) -> None:
        self.post_message(self.Left())

    def replace_all(self, text: str) -> None:
        """Replace the whole text; undo restores the old one."""
        area = self.text_input
        if area is not None:
            area.replace(text, area.document.start, area.document.end, maintain_selection_offset=False)
            area.history.checkpoint()

    def insert(self, text: str) -> None:
        """Insert a text at the cursor, and focus the editor."""
        if self.text_input is not None:
            self.text_input.insert(text)
            self.text_input.focus()

    @on(TextAreaPlus.ShowCompletionList)
    def _complete(self, message: TextAreaPlus.ShowCompletionList) -> None:
        message.stop()
        message.prevent_default()
        area, prefix = self.text_input, message.prefix
        if area is not None:
            is_member = "." in prefix
            area.completer_active = "member" if is_member else "word"
            items = self.catalog.members(prefix, self.text) if is_member else self.catalog.words(prefix, self.text)
            self.completion_list.cursor_offset = area.cursor_screen_offset - area.region.offset
            self.completion_list.show(prefix, items)

    @on(TextAreaPlus.Changed)
    @on(TextAreaPlus.SelectionChanged)
    def _close_stale_list(self) -> None:
        if self.text_input is not None and not self.text_input.is_listed:
            self.completion_list.show("", [])


class _Completions(CompletionList):
    """The list of completions of `word`."""

    word = ""

    def show(self, word: str, items: list[Item]) -> None:
        """List `items`; close the list if `word` is complete, so that Enter inserts a line break."""
        self.word = word
        if not items or any(written.lower() == word.lower() for _, written in items):
            self.is_open = False
        else:
            self.populate_and_position_list(self.CompletionsReady(word, items))


class _Text(TextAreaPlus):
    """The text area; its completion list receives keys only while it matches the word at the cursor."""

    def __init__(self, completions: _Completions, **names: Any) -> None:
        super().__init__(**names)
        self._completions = completions
        # A blinking cursor would send 650 bytes per second over an idle connection.
        self.set_reactive(_Text.cursor_blink, False)

    @property
    def is_listed(self) -> bool:
        """Whether the open list belongs to the word at the cursor."""
        return self._completions.is_open and self._completions.word == self._get_word_before_cursor()

    def on_key(self, event: events.Key) -> None:
        if event.key in _LIST_KEYS and not self.is_listed:
            self.completer_active = None
            self.post_message(TextAreaHideCompletionList())

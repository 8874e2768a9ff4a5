"""The SQL editor: `textual-textarea` with SQL's colours, completing from the served catalog."""

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
"""What the library's editor does with files; the console's own keys take their place."""
_LIST_KEYS = frozenset({"enter", "tab", "shift+tab", "up", "down", "pageup", "pagedown"})


class SqlEditor(TextEditor):
    """A place to write SQL. Escape leaves it.

    Keys may arrive many at once, as they do over SSH. The library looks for completions in threads, and gives Enter to
    its list from the first letter on, whatever is listed by then: so a line break became a name, and a number a column.
    Here a list is made at once, of the word at the cursor, and has its keys only while it is seen.
    """

    DEFAULT_CSS: ClassVar[str] = "SqlEditor CompletionList { background: $panel; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False, priority=True)]

    completion_list: "_Completions"
    text_input: "_Text | None"

    class Left(Message):
        """Escape was pressed, and no list of completions was open to take it."""

    def __init__(self, text: str = "", **names: Any) -> None:
        super().__init__(language="sql", text=text, use_system_clipboard=False, path_completer=None, **names)
        self.catalog = Catalog({})

    def compose(self) -> ComposeResult:
        # The library's, but for the text and the list.
        self.completion_list = _Completions()
        self.text_input = _Text(self.completion_list, language=self._language, text=self._initial_text)
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
        """The selected text, else all of it."""
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
        """Put `text` in place of everything, so that undo brings the old text back."""
        area = self.text_input
        if area is not None:
            area.replace(text, area.document.start, area.document.end, maintain_selection_offset=False)
            area.history.checkpoint()

    @on(TextAreaPlus.ShowCompletionList)
    def _complete(self, message: TextAreaPlus.ShowCompletionList) -> None:
        message.stop()
        message.prevent_default()
        area, prefix = self.text_input, message.prefix
        if area is not None:
            is_member = "." in prefix
            area.completer_active = "member" if is_member else "word"
            items = self.catalog.members(prefix, self.text) if is_member else self.catalog.words(prefix)
            self.completion_list.cursor_offset = area.cursor_screen_offset - area.region.offset
            self.completion_list.show(prefix, items)

    @on(TextAreaPlus.Changed)
    @on(TextAreaPlus.SelectionChanged)
    def _typed_on(self) -> None:
        if self.text_input is not None and not self.text_input.is_listed:
            self.completion_list.show("", [])


class _Completions(CompletionList):
    """The list of completions of `word`, made where it is asked for."""

    word = ""

    def show(self, word: str, items: list[Item]) -> None:
        """List `items`; nothing when `word` is one of them already, so that Enter breaks the line."""
        self.word = word
        if not items or any(written.lower() == word.lower() for _, written in items):
            self.is_open = False
        else:
            self.populate_and_position_list(self.CompletionsReady(word, items))


class _Text(TextAreaPlus):
    """The text, whose list gets its keys only while it is open and of the word at the cursor."""

    def __init__(self, completions: _Completions, **names: Any) -> None:
        super().__init__(**names)
        self._completions = completions
        # A cursor that blinks writes 650 bytes a second, on whatever line, while nobody types.
        self.set_reactive(_Text.cursor_blink, False)

    @property
    def is_listed(self) -> bool:
        """Whether what is listed are completions of the word at the cursor."""
        return self._completions.is_open and self._completions.word == self._get_word_before_cursor()

    def on_key(self, event: events.Key) -> None:
        if event.key in _LIST_KEYS and not self.is_listed:
            self.completer_active = None
            self.post_message(TextAreaHideCompletionList())

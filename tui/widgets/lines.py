"""A text widget that redraws only when its text changes."""

from textual.widgets import Static


class Lines(Static):
    """Lines of Textual's markup."""

    _shown_markup: str | None = None

    def show(self, markup: str) -> None:
        """Show this markup; does nothing when it is shown already."""
        if markup != self._shown_markup:
            self._shown_markup = markup
            self.update(markup)

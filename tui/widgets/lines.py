"""Text that is drawn again only when it says something else."""

from textual.widgets import Static


class Lines(Static):
    """Lines of Textual's markup."""

    _said: str | None = None

    def show(self, markup: str) -> None:
        """Show these lines; costs nothing when they are shown already."""
        if markup != self._said:
            self._said = markup
            self.update(markup)

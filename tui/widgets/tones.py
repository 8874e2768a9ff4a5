"""The tones (semantic colours) of text, as component classes and as Textual markup."""

TONES = ("ok", "bad", "warn", "busy", "quiet", "strong")
TONE_CLASSES = frozenset(f"tone--{tone}" for tone in TONES)
"""The style sheet assigns a colour to each."""

MARKUP = {
    "ok": "$text-success",
    "bad": "$text-error",
    "warn": "$text-warning",
    "busy": "$text-primary",
    "quiet": "$foreground-muted",
    "strong": "bold",
}
"""The style of each tone in Textual's markup."""


def toned(text: str, tone: str) -> str:
    """Return a text as markup in a tone; markup inside the text is escaped."""
    plain = escape_markup(text)
    return f"[{MARKUP[tone]}]{plain}[/]" if tone else plain


def escape_markup(text: str) -> str:
    """Escape a text for use in markup."""
    # Textual's own `escape` treats `[Any]` as a tag, which is not shown, and `[/` as an error.
    shown = text.replace("[", r"\[")
    # A trailing backslash cannot be escaped and would turn the next tag into text.
    return f"{shown} " if shown.endswith("\\") else shown

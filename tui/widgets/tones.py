"""The tones that text is drawn in, as component classes of the widgets that draw it themselves."""

TONES = ("ok", "bad", "warn", "busy", "quiet", "strong")
TONE_CLASSES = frozenset(f"tone--{tone}" for tone in TONES)
"""The style sheet gives each a colour."""

MARKUP = {
    "ok": "$text-success",
    "bad": "$text-error",
    "warn": "$text-warning",
    "busy": "$text-primary",
    "quiet": "$foreground-muted",
    "strong": "bold",
}
"""The same for text in Textual's markup."""


def toned(text: str, tone: str) -> str:
    """A text as markup in a tone; what looks like markup in it is shown as it is."""
    plain = as_is(text)
    return f"[{MARKUP[tone]}]{plain}[/]" if tone else plain


def as_is(text: str) -> str:
    """A text as markup that shows just that text."""
    # Textual's own `escape` lets `[Any]` pass for a tag, which is then not shown, and `[/` for an error.
    shown = text.replace("[", r"\[")
    # Nothing escapes a backslash, which would take the next tag for text.
    return f"{shown} " if shown.endswith("\\") else shown

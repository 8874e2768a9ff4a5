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
    from textual.markup import escape

    return f"[{MARKUP[tone]}]{escape(text)}[/]" if tone else escape(text)

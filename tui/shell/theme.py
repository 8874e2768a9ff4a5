"""The console's own themes: greys, so that status colours stand out."""

from dataclasses import replace

from textual.theme import Theme

THEME_NAME = "materia"
THEME_16_NAME = "materia-16"

MATERIA = Theme(
    name=THEME_NAME,
    primary="#7aa2c8",
    secondary="#8fa3b3",
    accent="#c8b37a",
    success="#7fb07f",
    warning="#d9a650",
    error="#e0706a",
    foreground="#c9d1d6",
    background="#14181b",
    surface="#14181b",
    panel="#1e2428",
    dark=True,
    variables={
        "primary-muted": "#2b3a45",
        "block-cursor-background": "#2b3a45",
        "block-cursor-foreground": "#e6edf1",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#20272c",
        "border": "#3a464e",
        "border-blurred": "#2a3339",
        "scrollbar": "#2a3339",
        "scrollbar-hover": "#3a464e",
        "scrollbar-active": "#7aa2c8",
        "scrollbar-background": "#14181b",
        "scrollbar-corner-color": "#14181b",
    },
)

MATERIA_16 = replace(
    MATERIA,
    name=THEME_16_NAME,
    # With 16 colours the muted ones above would all map to white; these map to the terminal's own colours.
    variables=MATERIA.variables
    | {"text-success": "#00cd00", "text-warning": "#cdcd00", "text-error": "#ff0000", "text-primary": "#00cdcd"},
)
"""The same theme for a terminal with 16 colours."""

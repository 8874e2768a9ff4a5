"""Reads the console's configuration file: key bindings by action id, and the theme."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dataflows.errors import SettingsError


@dataclass(frozen=True)
class TuiConfig:
    """`[keys]` maps action ids to keys: `"runs.start" = "s"`."""

    keys: Mapping[str, str] = field(default_factory=dict)
    theme: str | None = None


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """MATERIA_TUI_CONFIG, else `materia/tui.toml` in the user's config folder."""
    configured = environ.get("MATERIA_TUI_CONFIG", "").strip()
    folder = environ.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        return Path(configured).expanduser() if configured else Path(folder).expanduser() / "materia" / "tui.toml"
    except RuntimeError as error:
        raise SettingsError(f"MATERIA_TUI_CONFIG is not a valid path: {error}") from error


def read_config(path: Path) -> TuiConfig:
    """Read the file's settings, or return the defaults when it does not exist. Raises SettingsError with the path."""
    try:
        text = path.read_text(encoding="utf-8")
        import tomllib

        record = tomllib.loads(text)
    except FileNotFoundError:
        return TuiConfig()
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"cannot read {path}: {error}; fix or remove it") from error
    keys = record.get("keys", {})
    if not (isinstance(keys, dict) and all(isinstance(key, str) and key for key in keys.values())):
        raise SettingsError(f'{path}: [keys] maps an action to a key, such as "runs.start" = "s"')
    theme = record.get("theme")
    if theme is not None and not isinstance(theme, str):
        raise SettingsError(f'{path}: theme is a theme\'s name, such as theme = "materia"')
    return TuiConfig(keys, theme)

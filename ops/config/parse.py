"""Numbers that people write into settings: within bounds, or refused by the setting's name."""

import re

from dataflows.errors import SettingsError


def whole_number(text: str, name: str, least: int, most: int) -> int:
    """The number that `text` says; raises SettingsError when it says none from `least` to `most`."""
    # At most a dozen digits: Python refuses to read thousands of them, with an error of its own.
    number = int(text) if re.fullmatch(r"[0-9]{1,12}", text) else least - 1
    if not least <= number <= most:
        raise SettingsError(f"{name}={text!r} is not a whole number from {least} to {most}")
    return number


def number(text: str, name: str, least: float, most: float) -> float:
    """The same for a number that may have a fraction."""
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not least <= found <= most:
        raise SettingsError(f"{name}={text!r} is not a number from {least:g} to {most:g}")
    return found

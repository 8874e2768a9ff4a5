"""Parsers of settings: each takes the text and the setting's name, and raises SettingsError naming the setting."""

import ipaddress
import re
from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dataflows.errors import SettingsError

Parser = Callable[[str, str], Any]
"""Takes the text and the setting's name; returns the value."""


def whole_number(text: str, name: str, least: int, most: int) -> int:
    """Parse a whole number from `least` to `most`; raises SettingsError otherwise."""
    # At most a dozen digits, because Python raises an error of its own for thousands of them.
    found = int(text) if re.fullmatch(r"[0-9]{1,12}", text) else least - 1
    if not least <= found <= most:
        raise SettingsError(f"{name}={text!r} is not a whole number from {least} to {most}")
    return found


def text(given: str, _name: str) -> str:
    """The unchanged text."""
    return given


def integer(least: int, most: int) -> Parser:
    """A whole number from `least` to `most`."""
    return lambda given, name: whole_number(given, name, least, most)


def decimal(least: float, most: float) -> Parser:
    """A number from `least` to `most` that may have a fraction."""

    def parse(given: str, name: str) -> float:
        try:
            found = float(given)
        except ValueError:
            found = float("nan")
        if not least <= found <= most:
            raise SettingsError(f"{name}={given!r} is not a number from {least:g} to {most:g}")
        return found

    return parse


def matching(pattern: str, kind: str) -> Parser:
    """Text that matches the whole `pattern`; `kind` describes it in the error, with an example."""

    def parse(given: str, name: str) -> str:
        if not re.fullmatch(pattern, given):
            raise SettingsError(f"{name}={given!r} is not {kind}")
        return given

    return parse


def choice(*names: str) -> Parser:
    """One of `names`."""

    def parse(given: str, name: str) -> str:
        if given not in names:
            raise SettingsError(f"{name}={given!r} is not one of {', '.join(names)}")
        return given

    return parse


def path(given: str, name: str) -> Path:
    """An absolute path, which need not exist."""
    try:
        found = Path(given).expanduser().absolute()
        found.lstat()
    except FileNotFoundError:
        return found
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SettingsError(f"{name} is not a usable path: {why}") from error
    return found


def address(given: str, name: str) -> str:
    """An http(s) address with a host."""
    if not is_address(given):
        raise SettingsError(f"{name}={given!r} is not an http(s) address")
    return given


def secret_address(given: str, name: str) -> str:
    """An http(s) address that may contain a secret: no message repeats it."""
    if not is_address(given):
        raise SettingsError(f"{name} is not an http(s) address")
    return given


def is_address(given: str) -> bool:
    """Whether it is an http(s) address with a host."""
    try:
        parts = urlsplit(given)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def header(given: str, name: str) -> str:
    """The value of an HTTP header."""
    if not (given.isascii() and given.isprintable()):
        raise SettingsError(f"{name} contains characters that are invalid in a header; use printable ASCII")
    return given


def time_of_day(given: str, name: str) -> time:
    """Hours and minutes: `02:00`."""
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", given)
    if found is None:
        raise SettingsError(f"{name}={given!r} is not a time of day, such as 02:00")
    return time(int(found[1]), int(found[2]))


def span(parse_end: Parser) -> Parser:
    """Two values with `-` between them, the lower first: `8-14`."""

    def parse(given: str, name: str) -> tuple[Any, Any]:
        first, dash, last = given.partition("-")
        if not dash:
            raise SettingsError(f"{name}={given!r} is not a range, such as 8-14 or 12:00-14:00")
        ends = parse_end(first.strip(), name), parse_end(last.strip(), name)
        if ends[0] > ends[1]:
            raise SettingsError(f"{name}={given!r} is in reverse order; write the lower value first")
        return ends

    return parse


def names(given: str, _name: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(each.strip() for each in given.split(",") if each.strip())


def networks(given: str, name: str) -> tuple[str, ...]:
    """Networks with commas between them: `203.0.113.7/32`."""
    found = names(given, name)
    for network in found:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise SettingsError(f"{name}: {network!r} is not a network such as 203.0.113.7/32 ({error})") from error
    return found

"""Driving the console in a test: waiting for what it must say, never for a time."""

import time
from collections.abc import Callable
from typing import Any

from textual._xterm_parser import XTermParser
from textual.css.query import NoMatches
from textual.pilot import Pilot

_WAIT_S = 60.0


async def until(pilot: Pilot[Any], holds: Callable[[], object]) -> None:
    """Let the console work until `holds`, also of a widget that is yet to be made; fails after a minute."""
    deadline = time.monotonic() + _WAIT_S
    while not _already(holds):
        assert time.monotonic() < deadline, f"what was waited for never came; the console shows\n{screen_of(pilot)}"
        await pilot.pause(0.02)


def screen_of(pilot: Pilot[Any]) -> str:
    """What is on the screen, as text."""
    return "\n".join(strip.text.rstrip() for strip in pilot.app.screen._compositor.render_strips())


def _already(holds: Callable[[], object]) -> bool:
    try:
        return bool(holds())
    except NoMatches:
        return False


async def type_text(pilot: Pilot[Any], text: str) -> None:
    """Press the keys of `text`."""
    names = {" ": "space", ".": "full_stop", "'": "apostrophe", "=": "equals_sign", "/": "slash", "-": "minus"}
    await pilot.press(*(names.get(character, character) for character in text))


def packet(pilot: Pilot[Any], text: str) -> None:
    """Send what a terminal sends for these characters, all at once, and wait for nothing."""
    for event in XTermParser().feed(text):
        pilot.app.post_message(event)

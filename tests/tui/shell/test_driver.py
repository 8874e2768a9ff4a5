"""Tests of the input parser with bytes that terminals send."""

import pytest
from textual import events
from textual.message import Message

from tui.shell.driver import InputParser


def _keys(messages: list[Message]) -> list[str | None]:
    return [message.character for message in messages if isinstance(message, events.Key)]


def _feed(*pieces: bytes) -> list[Message]:
    parser = InputParser()
    return [message for piece in pieces for message in parser.feed(piece)]


@pytest.mark.parametrize(
    ("pieces", "characters"),
    [
        ((b"\xc3\xa9",), ["é"]),
        ((b"\xc3", b"\xa9"), ["é"]),
        ((b"\xe9", b""), ["é"]),
        ((b"\xe94",), ["é", "4"]),
        ((b"\xff\xfe4",), ["ÿ", "þ", "4"]),
    ],
    ids=["UTF-8", "UTF-8 in two reads", "Latin-1", "Latin-1 before a key", "no encoding"],
)
def test_every_byte_is_a_key(pieces: tuple[bytes, ...], characters: list[str]) -> None:
    assert _keys(_feed(*pieces)) == characters


@pytest.mark.parametrize("report", [b"\x1b[M\x20\xc8\x3c", b"\x1b[MC\xc8\x80", b"\x1b[M !!"])
def test_a_mouse_report_in_raw_bytes_is_no_key(report: bytes) -> None:
    assert _keys(_feed(report + b"4")) == ["4"]


def test_a_key_sequence_with_an_impossible_character_is_dropped() -> None:
    assert _keys(_feed(b"\x1b[99999999999;1u", b"4")) == ["4"]


def test_mouse_coordinates_are_cells_before_and_after_a_resize_report() -> None:
    click = b"\x1b[<0;41;13M"
    before, resize, after = _feed(click, b"\x1b[48;40;120;640;960t", click)
    assert isinstance(resize, events.Resize)
    assert isinstance(before, events.MouseDown) and isinstance(after, events.MouseDown)
    assert (before.x, before.y) == (after.x, after.y) == (40, 12)

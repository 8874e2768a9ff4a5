from datetime import UTC, datetime, timedelta

import pytest

from ops.cli.output import ago_text, duration_text, size_text, status_text, table

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_table_is_aligned_whatever_its_cells_hold() -> None:
    rows = [("1", status_text("done"), "x"), ("12", "died", "München 小麦")]
    assert table(("run", "status", "text"), rows, right=("run",)).splitlines() == [
        "run  status  text",
        "  1  " + status_text("done") + "    x",
        " 12  died    München 小麦",
    ]
    assert table(("run",), []) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-1.0, "0 ms"),
        (0.0414, "41 ms"),
        (0.44, "0.4 s"),
        (12.3, "12 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "just now"), (59, "just now"), (61, "1 min ago"), (7_300, "2 h ago"), (90_000, "1 d ago")],
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert ago_text(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 B"), (999, "999 B"), (5_100_000, "5.1 MB"), (3 * 10**12, "3.0 TB")]
)
def test_sizes_are_short(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text

"""Publishes, rollbacks and renames while threads and processes read: fresh, whole, and nothing left open."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.swaps import ANSWERED_EVERY, WRONG, Readers, publish_under_load, replace_under_load
from tests.support.torture import Figure, count

SWAPS = count(quick=50, long=1000)
READERS = Readers(threads=8, processes=count(quick=1, long=2), foreigners=1)


@pytest.mark.parametrize("swap", [publish_under_load, replace_under_load])
def test_no_answer_under_swaps_is_wrong_and_nothing_stays_open(
    swap: Callable[..., dict[str, Any]], tmp_path: Path, figure: Figure
) -> None:
    found = swap(tmp_path, SWAPS, READERS)
    for name, value in found.items():
        figure(f"{swap.__name__}: {name}", value)
    assert {kind: found[kind] for kind in WRONG} == dict.fromkeys(WRONG, 0), found["failures"]
    assert found["swaps"] == SWAPS
    assert found["queries"] >= found["changes_seen"] >= SWAPS // ANSWERED_EVERY, found

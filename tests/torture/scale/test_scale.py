"""What one more release costs after many: the figures that are kept, and, in the long form, a history of its own."""

import json
import subprocess
from pathlib import Path

import pytest

from bench.processes import watched
from bench.scale import FULL_FACTS, RELEASES, Measured, measure, rows
from dataflows.source.release import Month
from ops.config.settings import PROJECT_DIR
from ops.demo.history import HistorySpec
from tests.support.torture import Figure


def kept(releases: int) -> list[Measured]:
    """The lines that are kept of a history of so many full-size releases."""
    path = PROJECT_DIR / "docs" / "explanation" / f"scale-{releases}-releases.jsonl"
    lines = [Measured(**json.loads(line)) for line in path.open()]
    assert [release.number for release in lines] == list(range(1, releases + 1))
    assert min(release.facts for release in lines) >= 0.99 * FULL_FACTS
    return lines


def test_the_kept_figures_meet_their_bars() -> None:
    assert [row.what for row in rows(kept(RELEASES)) if not row.met] == []
    # The bars are those of two years: ten bring a fifth more facts, and with them a quarter more work.
    assert [row.what for row in rows(kept(120)) if not row.met and "processor" not in row.what] == []


def test_processes_are_weighed_among_others_that_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.processes._EVERY_S", 0.001)
    with watched() as tree:
        subprocess.run(["sh", "-c", "for n in $(seq 200); do sh -c 'sh -c true; true'; done"], check=True)
        subprocess.run(["sleep", "0.3"], check=True)
    assert tree.share("sleep 0.3").peak_mb > 0


@pytest.mark.long
def test_the_last_release_costs_what_the_second_did(tmp_path: Path, figure: Figure) -> None:
    spec = HistorySpec(rows=100_000, releases=RELEASES, first_month=Month(2016, 1), compress_level=1)
    for row in rows(measure(spec, tmp_path)):
        figure(row.what, f"{row.figure:.2f} {row.unit} ({row.note})")
        # A lakehouse this small is mostly empty blocks, and time is the machine's: memory must be flat.
        assert row.met or "memory" not in row.what

"""A clock that jumps back: releases and numbers determine what is newer, never the time of day."""

import json
from pathlib import Path

from dataflows.serving.store import ServingStore
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tests.torture.crash.bucket import Buckets
from tests.torture.crash.conftest import States, World, copy
from tests.torture.crash.invariants import assert_sound, outcome_of, served_number

LONG_AGO = "2025-02-20T12:00:00+00:00"
"""After the second release and before the third; everything so far was done later than that."""


def test_a_generation_published_with_a_clock_set_back_is_served_and_stays(
    world: World, states: States, tmp_path: Path
) -> None:
    data_dir = copy(states.transformed, tmp_path / "data")
    world.watcher.watch(data_dir / "serving.duckdb")
    world.play(data_dir, LONG_AGO, "publish", name="at")
    before, now = ServingStore(data_dir / "serving.duckdb").generations()
    assert now.created_at < before.created_at
    world.play(data_dir, name="publish")
    seen = world.watcher.seen()
    assert (seen.wrong, seen.numbers) == ((), (1, 2))
    assert served_number(data_dir) == 2
    assert outcome_of(data_dir) == outcome_of(states.published)


def test_an_extract_by_a_clock_that_was_set_back_takes_nothing_away(
    world: World, states: States, tmp_path: Path
) -> None:
    data_dir = copy(states.published, tmp_path / "data")
    before = outcome_of(data_dir)
    printed = world.play(data_dir, LONG_AGO, "materia", "run-all", name="at").output
    assert "nothing new: 2025-02 of" in printed
    assert outcome_of(data_dir) == before
    world.play(data_dir, LONG_AGO, "materia", "serving", "rollback", name="at")
    assert served_number(data_dir) == 1
    world.play(data_dir, "run-all", "--as-of", world.months[2])
    assert served_number(data_dir) == 1, "a rollback holds, whenever it was made"
    assert_sound(data_dir)


def test_runs_are_listed_in_the_order_of_their_start(world: World, states: States, tmp_path: Path) -> None:
    data_dir = copy(states.published, tmp_path / "data")
    world.play(data_dir, "serving", "rollback", "1")
    world.play(data_dir, LONG_AGO, "materia", "serving", "rollback", "2", name="at")
    with Journal(data_dir / "runs.sqlite") as journal:
        newest, before = journal.runs(2)
        assert newest.started_at < before.started_at
        assert (newest.arguments, newest.status) == (("2",), RunStatus.DONE)
        assert journal.last_success_by_pipeline()["rollback"] == newest
    played = world.stage.play(world.act(data_dir, "status", "--json"), data_dir)
    assert played.exit_code in (0, 3)
    assert json.loads(played.output)["generation"]["number"] == 2


def test_a_generation_made_by_a_clock_that_was_set_back_reaches_the_other_machines(
    world: World, states: States, buckets: Buckets, tmp_path: Path
) -> None:
    bucket = buckets.copy("bare")
    here, there = copy(states.transformed, tmp_path / "here"), copy(states.empty, tmp_path / "there")
    for data_dir in (here, there):
        # The landing is the other machine's affair here: only generations are shared.
        world.play(data_dir, name="share", **bucket.environ)
    assert served_number(there) == 1
    world.play(here, LONG_AGO, "publish", name="at")
    for data_dir in (here, there):
        world.play(data_dir, name="share", **bucket.environ)
    assert served_number(there) == 2
    assert outcome_of(there).served == outcome_of(states.published).served

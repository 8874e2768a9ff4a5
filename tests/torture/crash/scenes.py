"""What is killed and starved: every pipeline, from a state in which it has something to do."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.stage import Act
from tests.support.torture import count
from tests.torture.crash.bucket import Bucket
from tests.torture.crash.conftest import States, World, copy

EXTRACT = ("pipeline", "run", "extract", "--as-of", "{0}")


@dataclass(frozen=True)
class Scene:
    """An act, the state of the data directory that it begins in, and how often it is killed."""

    name: str
    state: str
    act: Callable[[World, Path], Act]
    quick: int
    long: int
    hows: tuple[str, ...] = ("all",)
    """Who is killed, in turn."""
    by_chance: bool = False
    """At random times instead of at steps."""
    bucket: str | None = None
    """The bucket that it shares with another machine, as that one left it."""

    @property
    def kills(self) -> int:
        return count(self.quick, self.long)


@dataclass(frozen=True)
class Setting:
    """A scene made ready in a data directory of its own."""

    data_dir: Path
    act: Act
    bucket: Bucket | None

    def clear(self) -> None:
        """Remove what the scene was played on."""
        shutil.rmtree(self.data_dir)
        if self.bucket is not None:
            self.bucket.remove()


def begin(scene: Scene, world: World, request: pytest.FixtureRequest, data_dir: Path) -> Setting:
    """Copy the scene's state, and its bucket."""
    states: States = request.getfixturevalue("states")
    copy(getattr(states, scene.state), data_dir)
    act = scene.act(world, data_dir)
    if scene.bucket is None:
        return Setting(data_dir, act, None)
    bucket = request.getfixturevalue("buckets").copy(scene.bucket)
    return Setting(data_dir, replace(act, environ={**act.environ, **bucket.environ}), bucket)


def _materia(*arguments: str) -> Callable[[World, Path], Act]:
    return lambda world, to: world.act(to, *(each.format(*world.months) for each in arguments))


def _part(name: str) -> Callable[[World, Path], Act]:
    return lambda world, to: world.act(to, name=name)


SCENES = (
    Scene("extract", "empty", _materia(*EXTRACT), 5, 60),
    Scene("backfill", "empty", _materia("backfill", "--from", "{0}", "--to", "{2}", "--land-only"), 2, 24),
    Scene("publish", "transformed", _part("publish"), 2, 40, ("all", "main")),
    Scene("rollback", "published", _materia("serving", "rollback", "1"), 3, 30),
    Scene("journal", "empty", lambda world, to: world.act(to, str(to / "logs"), name="remember"), 3, 40),
    Scene("extract-to-bucket", "empty", _materia(*EXTRACT), 2, 30, ("all", "sent"), bucket="bare"),
    Scene("sync-lakehouse", "empty", _part("sync_lakehouse"), 2, 32, ("all", "sent"), bucket="with-lakehouse"),
    Scene("bring-generation", "published", _part("share"), 1, 16, ("all", "sent"), bucket="bare"),
    Scene("fetch-generation", "empty", _part("share"), 1, 30, ("all", "sent"), bucket="with-generation"),
    Scene("transform", "pending", _materia("pipeline", "run", "transform"), 0, 12, ("main", "child", "all")),
    Scene("first-transform", "landed", _materia("pipeline", "run", "transform"), 0, 6, ("child", "main")),
    Scene("run-all", "served", _materia("run-all", "--as-of", "{2}"), 0, 6, by_chance=True),
)
"""Every pipeline of issue 7's crash matrix; `run-all` at random times covers what lies between the steps."""

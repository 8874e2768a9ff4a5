"""Data directories in the states from which runs are killed, made once; the stage to do it on, and a reader."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.demo.generator import GeneratedRelease, generate
from ops.demo.history import HistorySpec
from tests.support.faulty_archive import FaultyArchive
from tests.support.object_server import ObjectServer
from tests.support.stage import Act, Played, Stage
from tests.torture.crash.bucket import Buckets
from tests.torture.crash.watching import Watcher

ROWS, RELEASES = 500, 3


@dataclass(frozen=True)
class World:
    """Where everything is that runs need."""

    folder: Path
    archive: FaultyArchive
    releases: tuple[GeneratedRelease, ...]
    stage: Stage
    watcher: Watcher

    @property
    def months(self) -> tuple[str, ...]:
        return tuple(str(release.month) for release in self.releases)

    def act(self, data_dir: Path, *arguments: str, name: str = "materia", **environ: str) -> Act:
        environment = {"MATERIA_DATA_DIR": str(data_dir), "PSD_ARCHIVE_URL": self.archive.url}
        return Act(arguments, environment | environ, name)

    def play(self, data_dir: Path, *arguments: str, name: str = "materia", **environ: str) -> Played:
        """Play an act undisturbed; it must succeed."""
        played = self.stage.play(self.act(data_dir, *arguments, name=name, **environ), data_dir)
        assert played.exit_code == 0, played.output
        return played


@dataclass(frozen=True)
class States:
    """Data directories to copy, never to change."""

    empty: Path
    landed: Path
    """Three releases landed, no lakehouse."""
    served: Path
    """Two releases landed, transformed and served as generation 1; the archive has a third."""
    pending: Path
    """The third is landed as well."""
    transformed: Path
    """And transformed; generation 1 is still served."""
    published: Path
    """And served as generation 2."""


def copy(state: Path, to: Path) -> Path:
    return Path(shutil.copytree(state, to, symlinks=True))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("crash")
    releases = tuple(generate(HistorySpec(rows=ROWS, releases=RELEASES)))
    with FaultyArchive() as archive, Stage(folder / "stage") as stage, Watcher() as watcher:
        for release in releases:
            archive.post(release.month, release.zip_bytes, release.published_at, etag=release.etag)
        yield World(folder, archive, releases, stage, watcher)


@pytest.fixture(scope="session")
def states(world: World) -> States:
    """Two runs of SQLMesh, and a few that do without."""
    first, second, third = world.months
    built = States(**{name: world.folder / name for name in States.__dataclass_fields__})
    built.empty.mkdir()
    world.play(built.landed, "backfill", "--from", first, "--to", third, "--land-only")
    world.play(built.served, "backfill", "--from", first, "--to", second)
    copy(built.served, built.pending)
    world.play(built.pending, "pipeline", "run", "extract", "--as-of", third)
    copy(built.pending, built.transformed)
    world.play(built.transformed, "pipeline", "run", "transform")
    copy(built.transformed, built.published)
    world.play(built.published, name="publish")
    return built


@pytest.fixture(scope="session")
def buckets(world: World, states: States, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    """Buckets as another machine left them: with nothing, with its lakehouse, with its generations."""
    with ObjectServer(tmp_path_factory.mktemp("weed")) as server:
        built = Buckets(server)
        for bucket, state, name in (
            ("with-lakehouse", "transformed", "sync_lakehouse"),
            ("with-generation", "published", "share"),
        ):
            environ = built.new(bucket).environ
            world.play(copy(getattr(states, state), world.folder / bucket), name=name, **environ)
        built.new("bare")
        yield built

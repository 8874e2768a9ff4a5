"""The store of generations: the files beside the symlink `serving.duckdb`.

    serving.duckdb -> serving-12.duckdb      the served one
    serving-12.duckdb, serving-12.json       a generation and its sidecar; neither ever changes
    serving-13.duckdb.building               a running export, or one that died

Every step is durable before the next begins, and only the last one, replacing the symlink, changes what is
served: a process killed anywhere leaves the old generation served and the next publish free to go ahead.
There is one writer at a time (the lock of the data directory); readers need no lock.
"""

import hashlib
import os
import re
import shutil
import time
from dataclasses import fields
from pathlib import Path

from dataflows.errors import ServingBrokenError, ServingError, ServingMissingError
from dataflows.serving.generation import (
    Generation,
    GenerationFacts,
    foreign_generation,
    read_sidecar,
    sidecar_of,
)

GENERATIONS_KEPT = 5

GRACE_S = 60.0
"""Minimum time that a generation is kept after it was last served."""


class ServingStore:
    """The generations beside one serving path; its only state is that path."""

    def __init__(self, serving_path: Path) -> None:
        self.serving_path = serving_path
        self._directory = serving_path.parent
        stem, suffix = re.escape(serving_path.stem), re.escape(serving_path.suffix)
        endings = rf"{suffix}(?:\.wal|\.building(?:\.wal|\.tmp)?)?|\.json(?:\.tmp)?"
        self._ours = re.compile(rf"{stem}-([1-9][0-9]*)(?:{endings})")

    def served(self) -> Generation | None:
        """The served generation; None before the first publish. Never opens the database.

        A file that Materia didn't publish is generation 0. Raises ServingBrokenError for a dangling symlink.
        """
        if not os.path.lexists(self.serving_path):
            return None
        target = self.served_path()
        if not target.is_file():
            raise ServingBrokenError(
                f"{self.serving_path} points at {target}, which does not exist; run `materia run-all`"
            )
        return read_sidecar(target) or foreign_generation(target)

    def generations(self) -> tuple[Generation, ...]:
        """Every complete generation, oldest first; ServingBrokenError when a sidecar can't be understood."""
        found = (read_sidecar(self.path(number)) for number in self._complete())
        return tuple(generation for generation in found if generation is not None)

    def numbers(self) -> tuple[int, ...]:
        """The numbers that have both a database file and a sidecar, ascending."""
        return tuple(self._complete())

    def served_path(self) -> Path:
        """The file that is served: a generation's, or one that Materia did not publish."""
        return Path(os.path.realpath(self.serving_path))  # `resolve` raises RuntimeError for links in a circle

    def served_number(self) -> int | None:
        """The number that the serving path leads to, whether or not its files are there; None for a plain file."""
        return self._number_behind(self.serving_path)

    def is_complete(self, number: int) -> bool:
        """Whether a generation has both its database file and its sidecar."""
        return number in self._complete()

    def unserved(self) -> int | None:
        """Return the newest generation if its publisher was killed before serving it; None after a rollback."""
        announced, complete = self._number_behind(self._swap_path()), self._complete()
        is_newest = bool(complete) and announced == complete[-1]
        return announced if is_newest and announced != self.served_number() else None

    def path(self, number: int) -> Path:
        """The database file of generation `number`."""
        return self._beside(f"-{number}{self.serving_path.suffix}")

    def building_path(self, number: int) -> Path:
        """The path at which an export builds generation `number`; no listing takes it for a generation."""
        return self._beside(f"-{number}{self.serving_path.suffix}.building")

    def next_number(self) -> int:
        """Return an unused number, also unused by leftovers of killed exports."""
        return 1 + max((number for _, number in self._files()), default=0)

    def publish(self, building_path: Path, facts: GenerationFacts) -> Generation:
        """Make the finished file at `building_path` generation `facts.number`, and serve it.

        DuckDB must have closed the file. Raises ServingError, and changes nothing, if it looks open, lies
        elsewhere, or its number is taken. A plain file that stood at the serving path is kept beside it.
        """
        self._check_finished(building_path, facts.number)
        _sync(building_path)
        known = {field.name: getattr(facts, field.name) for field in fields(GenerationFacts)}
        generation = Generation(**known, size_bytes=building_path.stat().st_size, sha256=_sha256(building_path))
        path = self.path(generation.number)
        draft = sidecar_of(path).with_suffix(".json.tmp")
        draft.write_text(generation.to_json())
        _sync(draft)
        draft.replace(sidecar_of(path))
        building_path.chmod(0o444)
        self._announce(generation.number)
        building_path.rename(path)
        _sync(self._directory)
        self._serve(generation.number)
        return generation

    def rollback(self, number: int | None = None) -> Generation:
        """Serve generation `number` again, by default the one before the served one; returns it.

        Raises ServingMissingError when there is none, ServingBrokenError when its file has changed since.
        """
        if number is None:
            served = self.served_number()
            earlier = [n for n in self._complete() if served is None or n < served]
            if not earlier:
                raise ServingMissingError(
                    f"nothing before {served} is kept beside {self.serving_path}; see `materia serving list`"
                )
            number = earlier[-1]
        generation = self.check(number)
        self._check_replaceable()
        self._serve(number)
        return generation

    def check(self, number: int) -> Generation:
        """Generation `number`, if its file is still what was published (sha256).

        Raises ServingMissingError when it isn't here, ServingBrokenError when the file has changed.
        """
        generation = read_sidecar(self.path(number)) if self.path(number).is_file() else None
        if generation is None:
            raise ServingMissingError(
                f"generation {number} is not kept beside {self.serving_path}; see `materia serving list`"
            )
        if _sha256(self.path(number)) != generation.sha256:
            raise ServingBrokenError(
                f"{self.path(number)} is not the file that was published (its sha256 differs); "
                "run `materia run-all`, which sets it aside and publishes again"
            )
        return generation

    def verify(self, number: int, timeout_s: float = 600.0) -> Generation:
        """Generation `number`, after checking its sha256 and reading all of it in a fresh process.

        Raises ServingMissingError when it isn't here, ServingBrokenError when it isn't what was published.
        """
        from dataflows.serving.verify import verify_in_fresh_process

        generation = self.check(number)
        verify_in_fresh_process(self.path(number), generation.row_counts, timeout_s)
        return generation

    def prune(self, keep: int = 5, grace_s: float = GRACE_S) -> tuple[Path, ...]:
        """Remove all but the `keep` newest generations and the served one, and the leftovers of killed exports.

        A generation served less than `grace_s` ago stays, too: a reader may have resolved the symlink but not yet
        opened the file. Incomplete files of the highest number stay: an export may be writing them, and they
        reserve its number. Returns the removed files.
        """
        if keep < 1:
            raise ServingError(f"cannot keep {keep} generations; keep at least 1")
        complete = self._complete()
        lately = {number for number in complete if self._left_s(number) < grace_s}
        kept_numbers = {*complete} & {*complete[-keep:], *lately, self.served_number()}
        kept = {path for n in kept_numbers for path in (self.path(n), sidecar_of(self.path(n)))}
        under_way = {self.next_number() - 1} - {*complete}
        gone = [path for path, n in self._files() if path not in kept and n not in under_way]
        if self.serving_path.is_symlink():
            stray = (self._stray_wal(), *(() if self.unserved() else (self._swap_path(),)))
            gone += [path for path in stray if os.path.lexists(path)]
        for path in gone:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        _sync(self._directory)
        return tuple(sorted(gone))

    def _serve(self, number: int) -> None:
        """Point the serving path at generation `number` atomically."""
        left = self.served_number()
        if left is not None and sidecar_of(self.path(left)).exists():
            os.utime(sidecar_of(self.path(left)))  # says until when it was served
        if os.path.lexists(self.serving_path) and not self.serving_path.is_symlink():
            self._keep_foreign()
        elif self.serving_path.is_symlink():
            self._stray_wal().unlink(missing_ok=True)  # beside a new file it would make every open fail
        if self._number_behind(self._swap_path()) != number:
            self._announce(number)
        self._swap_path().replace(self.serving_path)
        _sync(self._directory)

    def _announce(self, number: int) -> None:
        """Create the new link beside the old one, before the generation is complete, so that `unserved` can see it."""
        self._swap_path().unlink(missing_ok=True)
        self._swap_path().symlink_to(self.path(number).name)

    def _keep_foreign(self) -> None:
        """Create a second link to a plain file at the serving path, so that replacing it loses nothing."""
        kept = self._beside(f"-foreign-{self.serving_path.stat().st_mtime_ns}{self.serving_path.suffix}")
        if not kept.exists():  # a publish that died here has named it already
            kept.hardlink_to(self.serving_path)

    def _check_finished(self, building_path: Path, number: int) -> None:
        if not building_path.is_file() or building_path.parent.resolve() != self._directory.resolve():
            raise ServingError(f"{building_path} is not a file beside {self.serving_path}; build it there")
        if _beside_wal(building_path).exists() or _held_open(building_path):
            raise ServingError(f"{building_path} is still open or has a .wal: CHECKPOINT and close before publishing")
        if self.path(number).exists():
            raise ServingError(f"{self.path(number)} exists already; a generation's number is never reused")
        self._check_replaceable()

    def _check_replaceable(self) -> None:
        """Raise ServingError if the serving path cannot be replaced without loss."""
        if os.path.lexists(self.serving_path) and not self.serving_path.is_symlink():
            if not self.serving_path.is_file():
                raise ServingError(f"{self.serving_path} is not a file or a symlink; move it away")
            if self._stray_wal().exists():
                raise ServingError(
                    f"{self.serving_path} was not published by Materia and has a .wal beside it: something "
                    "still writes to it, or died doing so; open and close it with DuckDB, or move both away"
                )

    def _number_behind(self, link: Path) -> int | None:
        match = self._ours.fullmatch(link.readlink().name) if link.is_symlink() else None
        return int(match[1]) if match else None

    def _left_s(self, number: int) -> float:
        """Seconds since generation `number` was last served or, if never served, created."""
        return time.time() - sidecar_of(self.path(number)).stat().st_mtime

    def _complete(self) -> list[int]:
        """The numbers that have both a database file and a sidecar, ascending."""
        files = {path for path, _ in self._files()}
        numbers = {number for _, number in self._files()}
        return sorted(n for n in numbers if {self.path(n), sidecar_of(self.path(n))} <= files)

    def _files(self) -> list[tuple[Path, int]]:
        """All files with a generation's number, with that number."""
        if not self._directory.is_dir():
            return []
        matches = ((path, self._ours.fullmatch(path.name)) for path in self._directory.iterdir())
        return [(path, int(match[1])) for path, match in matches if match]

    def _beside(self, ending: str) -> Path:
        return self._directory / f"{self.serving_path.stem}{ending}"

    def _stray_wal(self) -> Path:
        return _beside_wal(self.serving_path)

    def _swap_path(self) -> Path:
        return self.serving_path.with_name(f"{self.serving_path.name}.swap")


def _beside_wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _held_open(path: Path) -> bool:
    """Whether this process has `path` open; False outside Linux."""
    own_files = Path("/proc/self/fd")
    target = str(path.resolve())
    return own_files.is_dir() and any(_link_target(fd) == target for fd in own_files.iterdir())


def _link_target(link: Path) -> str | None:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed since the listing
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Make a file, or the names in a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

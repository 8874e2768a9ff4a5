"""Generations in a bucket: immutable versions that any host can fetch, verify and serve.

    serving/{dataset}/000012-{sha256}.duckdb     the database file
    serving/{dataset}/000012.json                its sidecar

A transfer keeps the number of a generation if it can. If the other side already uses that number, or a later one, for
another file, the generation gets the next free number there, so that the newest always has the highest number. The
sha256 identifies a generation.
"""

from dataclasses import replace
from pathlib import Path

from dataflows.errors import LostRaceError, ServingBrokenError
from dataflows.files import move_durably
from dataflows.objects.store import ObjectStore
from dataflows.objects.transfer import upload
from dataflows.objects.versions import Versions
from dataflows.serving.generation import Generation
from dataflows.serving.store import ServingStore
from dataflows.serving.verify import verify_in_fresh_process

_VERIFY_TIMEOUT_S = 1800.0


class RemoteGenerations:
    """The generations of one dataset in a bucket."""

    def __init__(self, store: ObjectStore, dataset: str) -> None:
        self._store = store
        self._versions = Versions(store, f"serving/{dataset}/")

    def numbers(self) -> tuple[int, ...]:
        """The numbers of the generations in the bucket, ascending."""
        return tuple(self._versions.records())

    def generation(self, number: int) -> Generation:
        """Read the sidecar of a generation from the bucket. Raises ObjectMissingError or ServingBrokenError."""
        return self._parse(number, self._versions.read(number))

    def newest(self) -> Generation | None:
        """The generation with the highest number in the bucket; None when there is none."""
        numbers = self.numbers()
        return self.generation(numbers[-1]) if numbers else None

    def holds(self, generation: Generation) -> bool:
        """Whether a generation is in the bucket, under any number."""
        return any(self.generation(number).sha256 == generation.sha256 for number in reversed(self.numbers()))

    def push(self, generation: Generation, path: Path) -> Generation:
        """Upload a published generation as the newest of the bucket; return it with its number there.

        Does nothing when it is the newest already. Raises LostRaceError when another machine pushed one meanwhile;
        that one stays.
        """
        newest = self.newest()
        if newest is not None and newest.sha256 == generation.sha256:
            return newest
        number = max(generation.number, newest.number + 1 if newest else 1)
        sidecar = replace(generation, number=number).to_json().encode()
        there = self._parse(number, self._versions.commit(number, {generation.sha256: path}, sidecar))
        if there.sha256 != generation.sha256:
            raise LostRaceError(
                "another machine pushed a generation meanwhile (created "
                f"{there.created_at:%Y-%m-%d %H:%M} UTC, {self._store.bucket.url(self._versions.record_key(number))}); "
                "this generation was not pushed. Run again: the newer one is kept"
            )
        return there

    def pull(self, generation: Generation, serving: ServingStore) -> Generation:
        """Download a generation, verify it and serve it; return it with its number here.

        A generation that exists here already is served again. The caller holds the writer's lock. Raises
        ObjectStoreError or ServingBrokenError; then the served generation stays.
        """
        if (here := copy_of(generation, serving)) is not None:
            return serving.rollback(here.number)
        number = max(generation.number, serving.next_number())
        building = serving.building_path(number)
        arriving = serving.serving_path.with_name(f"{serving.serving_path.stem}.arriving")
        self._fetch(generation, arriving)
        verify_in_fresh_process(arriving, generation.row_counts, _VERIFY_TIMEOUT_S)
        move_durably(arriving, building)
        published = serving.publish(building, replace(generation, number=number))
        if published.sha256 != generation.sha256:
            raise ServingBrokenError(f"{serving.path(number)} changed while it was published; pull again")
        return published

    def check(self, generation: Generation, workspace: Path) -> None:
        """Download a generation and compare its sha256. Raises ObjectMissingError or ObjectDamagedError."""
        path = workspace / f"generation-{generation.sha256[:16]}.check"
        try:
            self._fetch(generation, path)
        finally:
            path.unlink(missing_ok=True)

    def url(self, generation: Generation) -> str:
        """The URL of a generation's database file."""
        return self._store.bucket.url(self._database_key(generation))

    def restore(self, number: int, serving: ServingStore) -> str:
        """Upload a damaged generation again from its local copy or, without one, delete it from the bucket.

        Returns a description of what was done.
        """
        try:
            generation = self.generation(number)
        except ServingBrokenError:
            self._store.delete(self._versions.record_key(number))
            return "withdrawn from the bucket, for its sidecar cannot be read"
        here = copy_of(generation, serving)
        if here is None:
            self._store.delete(self._versions.record_key(number))
            self._store.delete(self._database_key(generation))
            return "withdrawn from the bucket, for no intact copy is here"
        serving.check(here.number)
        self._store.delete(self._database_key(generation))
        upload(self._store, serving.path(here.number), self._database_key(generation))
        return "uploaded again"

    def prune(self, keep: int) -> None:
        """Delete all but the newest `keep` generations."""
        self._versions.prune(keep)

    def _fetch(self, generation: Generation, path: Path) -> None:
        self._versions.fetch(generation.number, path, size_bytes=generation.size_bytes, sha256=generation.sha256)

    def _database_key(self, generation: Generation) -> str:
        return self._versions.file_key(generation.number, generation.sha256)

    def _parse(self, number: int, sidecar: bytes) -> Generation:
        return Generation.from_json(sidecar, self._store.bucket.url(self._versions.record_key(number)))


def copy_of(generation: Generation, serving: ServingStore) -> Generation | None:
    """The generation with the same sha256 on this host, under any number; None when there is none."""
    return next((here for here in serving.generations() if here.sha256 == generation.sha256), None)

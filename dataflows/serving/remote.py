"""Generations in a bucket: immutable objects that any host can fetch, verify and serve.

    serving/{dataset}/000012-{sha256}.duckdb     the database file
    serving/{dataset}/000012.json                its sidecar, written last and only once: the number is taken

A transfer keeps the number of a generation if it can. If the other side already uses that number, or a later one, for
another file, the generation gets the next free number there, so that the newest always has the highest number. The
sha256 identifies a generation.
"""

import re
from dataclasses import replace
from pathlib import Path

from dataflows.errors import LostRaceError, ObjectMissingError, ServingBrokenError
from dataflows.files import move_durably
from dataflows.objects import download as object_download
from dataflows.objects import upload as object_upload
from dataflows.objects.store import ObjectStore
from dataflows.serving.generation import Generation
from dataflows.serving.store import ServingStore
from dataflows.serving.verify import verify_in_fresh_process

_VERIFY_TIMEOUT_S = 1800.0


class RemoteGenerations:
    """The generations of one dataset in a bucket."""

    def __init__(self, store: ObjectStore, dataset: str) -> None:
        self._store = store
        self._prefix = f"serving/{dataset}/"
        self._sidecar = re.compile(re.escape(self._prefix) + r"([0-9]{6,})\.json")

    def numbers(self) -> tuple[int, ...]:
        """The numbers of the generations in the bucket, ascending."""
        found = (self._sidecar.fullmatch(listed.key) for listed in self._store.list(self._prefix))
        return tuple(sorted(int(match[1]) for match in found if match))

    def generation(self, number: int) -> Generation:
        """Read the sidecar of a generation from the bucket. Raises ObjectMissingError or ServingBrokenError."""
        key = self._sidecar_key(number)
        found = self._store.read(key)
        if found is None:
            raise ObjectMissingError(
                f"{self._store.bucket.url(key)} is missing; run `materia serving push` on a host that has it"
            )
        return Generation.from_json(found.data.decode(errors="replace"), Path(self._store.bucket.url(key)))

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
        offered = replace(generation, number=max(generation.number, newest.number + 1 if newest else 1))
        database, sidecar = self._database_key(offered), self._sidecar_key(offered.number)
        object_upload.upload(self._store, path, database)
        if self._store.put_if_absent(sidecar, offered.to_json().encode()):
            return offered
        there = self.generation(offered.number)
        if there.sha256 == offered.sha256:
            return there
        self._store.delete(database)
        raise LostRaceError(
            f"{self._store.bucket.url(sidecar)} was pushed by another machine meanwhile (created "
            f"{there.created_at:%Y-%m-%d %H:%M} UTC); this generation was not pushed. Run again: the newer one is kept"
        )

    def pull(self, generation: Generation, serving: ServingStore) -> Generation:
        """Download a generation, verify it and serve it; return it with its number here.

        A generation that exists here already is served again. The caller holds the writer's lock. Raises
        ObjectDamagedError, ObjectUnavailableError (call again to resume) or ServingBrokenError; then the served
        generation stays.
        """
        if (here := copy_of(generation, serving)) is not None:
            return serving.rollback(here.number)
        number = max(generation.number, serving.next_number())
        building = serving.building_path(number)
        # The name does not depend on the local number, so that a later call can resume the download.
        arriving = serving.serving_path.with_name(f"{serving.serving_path.stem}.arriving")
        object_download.download(
            self._store,
            self._database_key(generation),
            arriving,
            size_bytes=generation.size_bytes,
            sha256=generation.sha256,
        )
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
            object_download.download(
                self._store,
                self._database_key(generation),
                path,
                size_bytes=generation.size_bytes,
                sha256=generation.sha256,
            )
        finally:
            path.unlink(missing_ok=True)

    def url(self, generation: Generation) -> str:
        """Return the URL of a generation's database file."""
        return self._store.bucket.url(self._database_key(generation))

    def restore(self, number: int, serving: ServingStore) -> str:
        """Upload a damaged generation again from its local copy or, without one, delete it from the bucket.

        Returns a description of what was done.
        """
        generation = self.generation(number)
        here = copy_of(generation, serving)
        if here is None:
            self._store.delete(self._sidecar_key(number))
            self._store.delete(self._database_key(generation))
            return "withdrawn from the bucket, for no intact copy is here"
        serving.check(here.number)
        self._store.delete(self._database_key(generation))
        object_upload.upload(self._store, serving.path(here.number), self._database_key(generation))
        return "uploaded again"

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` generations: the sidecar first, so that none is offered without its file."""
        listed = [each.key for each in self._store.list(self._prefix)]
        gone = {f"{number:06d}" for number in self.numbers()[:-keep]}
        for key in sorted(listed, key=lambda key: not key.endswith(".json")):
            if re.split(r"[-.]", key.removeprefix(self._prefix))[0] in gone:
                self._store.delete(key)
        object_upload.clean_unfinished(self._store, self._prefix)

    def _database_key(self, generation: Generation) -> str:
        return f"{self._prefix}{generation.number:06d}-{generation.sha256}.duckdb"

    def _sidecar_key(self, number: int) -> str:
        return f"{self._prefix}{number:06d}.json"


def copy_of(generation: Generation, serving: ServingStore) -> Generation | None:
    """Return the generation with the same sha256 on this host, under any number."""
    return next((here for here in serving.generations() if here.sha256 == generation.sha256), None)

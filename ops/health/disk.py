"""Whether the disk has the space that the next release needs."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from dataflows.errors import ServingError
from dataflows.serving.store import ServingStore
from ops.config.settings import Settings


@dataclass(frozen=True)
class DiskSpace:
    """What is free at `folder` and what the next run needs there, in bytes."""

    folder: Path
    free_bytes: int
    needed_bytes: int

    @property
    def is_low(self) -> bool:
        return self.free_bytes < self.needed_bytes


def disk_space(settings: Settings) -> DiskSpace:
    """The disk of the data directory. A run needs MATERIA_MIN_FREE_MB and a generation as large as the served one.

    0 MB needs nothing.
    """
    folder = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    least_bytes = settings.supervision.min_free_bytes
    needed_bytes = least_bytes + _generation_bytes(settings) if least_bytes else 0
    return DiskSpace(folder, shutil.disk_usage(folder).free, needed_bytes)


def _generation_bytes(settings: Settings) -> int:
    try:
        served = ServingStore(settings.serving_path).served()
    except ServingError:
        return 0
    return served.size_bytes if served else 0

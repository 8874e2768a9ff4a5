"""The demo's work: generated releases on a loopback archive, published by the real pipelines in a directory apart."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dataflows.errors import SettingsError
from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.demo.archive_server import ArchiveServer
from ops.demo.history import HistorySpec, published_at
from ops.demo.psd_codes import commodities_of
from ops.host.lock import writer_lock

MARK = "made-by-materia-demo"
"""The file that says that a directory is a demo's, and may be cleared by the next one."""


@dataclass(frozen=True)
class Act:
    """A piece of the demo's work: what it does in a few words, and the doing, which returns the outcome in a line."""

    title: str
    perform: Callable[[], str]


def history_until(now: datetime, dataset: str, rows: int, releases: int) -> HistorySpec:
    """The history whose last release is the newest that USDA would have posted by `now` (UTC).

    That release also moves one of several commodities to other market years, as USDA does now and then. Raises
    SettingsError.
    """
    last = Month.of(now.date())
    if published_at(last) > now:
        last = last.back(1)
    plain = HistorySpec.ending(last, releases, dataset=dataset, rows=rows)
    return replace(plain, rekey_in=releases - 1) if len(commodities_of(dataset)) > 1 else plain


def clear_directory(data_dir: Path) -> None:
    """Make `data_dir` an empty directory that bears our mark.

    Raises SettingsError, and removes nothing, when it holds anything but an earlier demo; LockHeldError when that
    one is at work.
    """
    mark = data_dir / MARK
    if data_dir.exists() and not data_dir.is_dir():
        raise SettingsError(f"{data_dir} is a file; name a directory with --keep")
    if not mark.exists() and data_dir.exists() and any(data_dir.iterdir()):
        raise SettingsError(f"{data_dir} holds something that no demo made; name an empty directory with --keep")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        mark.write_text("Generated data. The next `materia demo` that uses this directory clears it.\n")
    except OSError as error:
        raise SettingsError(f"{data_dir}: {error.strerror}; name another directory with --keep") from error
    lock_path = data_dir / "writer.lock"
    with writer_lock(lock_path, "demo"):
        for path in data_dir.iterdir():
            if path not in (mark, lock_path):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def demo_settings(data_dir: Path, dataset: str, archive_url: str) -> Settings:
    """The settings of a demo: nothing of the operator's own goes in, no object storage and no other file."""
    return Settings.from_environ(
        {"MATERIA_DATA_DIR": str(data_dir), "PSD_DATASET": dataset, "PSD_ARCHIVE_URL": archive_url}
    )


def acts(archive: ArchiveServer, settings: Settings, spec: HistorySpec) -> Iterator[Act]:
    """The demo from the first generated release to the last published one; each act is to be performed in turn."""
    from ops.pipelines.backfill import backfill
    from ops.pipelines.job import Request
    from ops.pipelines.run import run

    months = spec.months
    first, last = months[0], months[-1]
    middle = months[1:-1]

    def made() -> str:
        from ops.demo.generator import generate

        facts, size_bytes = 0, 0
        for release in generate(spec):
            archive.post(release.month, release.zip_bytes, release.published_at, release.etag)
            facts, size_bytes = facts + release.row_count, size_bytes + len(release.zip_bytes)
        return f"{facts:,} facts in {len(months)} zips of {size_bytes / len(months) / 1e3:,.0f} kB"

    def filled() -> str:
        return backfill(settings, middle[0], middle[-1], Request(trigger="demo"), serve=True, report=lambda _: None)

    def up_to(month: Month) -> Callable[[], str]:
        return lambda: run("run-all", settings, Request(trigger="demo", as_of=month))

    yield Act(f"make {len(months)} monthly releases, {first} to {last}, and post them on a loopback archive", made)
    yield Act(f"land, transform and publish the first, {first}", up_to(first))
    if middle:
        yield Act(f"backfill the {len(middle)} that followed" if len(middle) > 1 else "backfill the next", filled)
    yield Act(f"run everything on release day, {last}", up_to(last))
    yield Act("run everything once more, with nothing new posted", up_to(last))

"""The demo: generated releases on a loopback archive, published by the real pipelines into a separate directory."""

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
from ops.host.formatting import size_text
from ops.host.lock import writer_lock

MARKER_NAME = "generate_releases-by-materia-demo"
"""The file that marks a directory as a demo's, which the next demo may clear."""


@dataclass(frozen=True)
class DemoStep:
    """A step of the demo; `perform` returns the outcome as a line."""

    title: str
    perform: Callable[[], str]


def history_until(now: datetime, dataset: str, rows: int, releases: int) -> HistorySpec:
    """The history whose last release is the newest that USDA would have posted by `now` (UTC).

    That release also moves one commodity to other market years, as USDA sometimes does. Raises SettingsError.
    """
    last = Month.of(now.date())
    if published_at(last) > now:
        last = last.back(1)
    plain = HistorySpec.ending(last, releases, dataset=dataset, rows=rows)
    return replace(plain, rekey_in=releases - 1) if len(commodities_of(dataset)) > 1 else plain


def clear_directory(data_dir: Path) -> None:
    """Clear `data_dir` and mark it as a demo's.

    Raises SettingsError, and deletes nothing, if it contains anything but an earlier demo; LockHeldError while an
    earlier demo is running.
    """
    marker = data_dir / MARKER_NAME
    if data_dir.exists() and not data_dir.is_dir():
        raise SettingsError(f"{data_dir} is a file; name a directory with --keep")
    if not marker.exists() and data_dir.exists() and any(data_dir.iterdir()):
        raise SettingsError(f"{data_dir} contains files that are not a demo's; name an empty directory with --keep")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        marker.write_text("Generated data. The next `materia demo` that uses this directory clears it.\n")
    except OSError as error:
        raise SettingsError(f"{error.strerror}: {data_dir}; name another directory with --keep") from error
    lock_path = data_dir / "writer.lock"
    with writer_lock(lock_path, "demo"):
        for path in data_dir.iterdir():
            if path not in (marker, lock_path):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def demo_settings(data_dir: Path, dataset: str, archive_url: str) -> Settings:
    """The settings of a demo, independent of the operator's environment and without object storage."""
    return Settings.from_environ(
        {"MATERIA_DATA_DIR": str(data_dir), "PSD_DATASET": dataset, "PSD_ARCHIVE_URL": archive_url}
    )


def demo_steps(archive: ArchiveServer, settings: Settings, spec: HistorySpec) -> Iterator[DemoStep]:
    """The steps of the demo, to be performed in order."""
    from ops.pipelines.backfill import backfill
    from ops.pipelines.job import Request
    from ops.pipelines.run import run

    months = spec.months
    first, last = months[0], months[-1]
    middle = months[1:-1]

    def generate_releases() -> str:
        from ops.demo.generator import generate

        facts, size_bytes = 0, 0
        for release in generate(spec):
            archive.post(release.month, release.zip_bytes, release.published_at, release.etag)
            facts, size_bytes = facts + release.row_count, size_bytes + len(release.zip_bytes)
        return f"{facts:,} facts in {len(months)} zips of {size_text(size_bytes // len(months))}"

    def backfill_months() -> str:
        return backfill(settings, middle[0], middle[-1], Request(trigger="demo"), serve=True, report=lambda _: None)

    def run_until(month: Month) -> Callable[[], str]:
        return lambda: run("run-all", settings, Request(trigger="demo", as_of=month))

    yield DemoStep(
        f"generate {len(months)} monthly releases, {first} to {last}, and post them on a loopback archive",
        generate_releases,
    )
    yield DemoStep(f"land, transform and publish the first, {first}", run_until(first))
    if middle:
        yield DemoStep(f"backfill the next {len(middle)}" if len(middle) > 1 else "backfill the next", backfill_months)
    yield DemoStep(f"run everything on release day, {last}", run_until(last))
    yield DemoStep("run everything again, with nothing new posted", run_until(last))

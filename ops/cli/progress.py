"""The progress bar of downloads, on terminals only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ops.pipelines.job import Progress

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def download_progress(console: "Console | None") -> Iterator[Progress]:
    """Yield a callback that draws bytes, speed and remaining time; the bar appears with the first bytes."""
    if console is None:
        yield lambda received_bytes, total_bytes: None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("downloading"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("download", total=None, visible=False)

        def show(received_bytes: int, total_bytes: int | None) -> None:
            bars.update(task, completed=received_bytes, total=total_bytes, visible=True)

        yield show

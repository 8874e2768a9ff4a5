"""Moving the lakehouse between its file and a DuckLake, both ways, as a run that the journal keeps."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from dataflows.errors import SettingsError
from ops import handover
from ops.job import Job, Request, job
from ops.pipelines import lakehouse_of
from ops.settings import Settings

Told = Callable[[str, int], None]
"""Told the name and the rows of each table that is the same on both sides."""


def migrate(settings: Settings, to: str, *, replace: bool, told: Told) -> str:
    """Move the lakehouse to its other store, `ducklake` or `duckdb`, and return the outcome in a line.

    The source stays as it is. Done twice, or after one that died, it comes to the same. Raises LockHeldError while
    anybody writes to either, and LakehouseError when the target holds something else and `replace` is not said.
    """
    if settings.ducklake is None:
        raise SettingsError(
            "there is no DuckLake to move to or from: set DUCKLAKE_CATALOG and DUCKLAKE_DATA; see docs/scaling.md"
        )
    arguments = ("--to", to, *(("--replace",) if replace else ()))
    with job("migrate", settings, Request(), arguments) as begun, begun.holding(settings.ducklake) as holding:
        with handover.lakehouse_handed_over(begun.remote, begun.recorder):
            _migrate(holding, to, replace, told)
        return begun.recorder.result or "done"


def _migrate(job: Job, to: str, replace: bool, told: Told) -> None:
    from dataflows.lakehouse_move import Move, move
    from dataflows.transform import move_state

    job.landing.ready_rows(job.settings.dataset)  # views name its files
    file, lake = lakehouse_of(job, None), lakehouse_of(job, job.settings.ducklake)
    source, target = (file, lake) if to == "ducklake" else (lake, file)
    with job.recorder.step("tables_moved") as note:
        wanted = Move(source.store, target.store, job.settings.landing_dir)
        moved = move(wanted, replace=replace, told=lambda table: told(table.name, table.row_count))
        note.detail = "copied and compared" if moved else "the same already"
    with job.recorder.step("state_moved"), TemporaryDirectory(dir=job.settings.data_dir) as folder:
        # Also when the tables were the same already: a move that died may not have come this far.
        move_state(source, target, Path(folder) / "state.json")
    job.recorder.result = (
        f"{target.store} holds the lakehouse; set MATERIA_GATEWAY={to}, and the next run goes on there"
    )

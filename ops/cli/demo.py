"""`materia demo`: run the main job on generated releases and show results as an analyst would query them."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from ops.cli.output import duration_text
from ops.config.settings import IS_CHECKOUT, Settings
from ops.journal.run import utc_now

if TYPE_CHECKING:
    from ops.demo.history import HistorySpec

DEFAULT_DATASET = "psd_alldata"
REVISIONS_SHOWN = 8
CONSOLE = Path(sys.executable).with_name("materia-tui")


@click.command(short_help="Run the main job on generated releases and show the results.")
@click.option("--rows", type=click.IntRange(2_000), default=50_000, show_default=True, help="Facts per release.")
@click.option("--releases", type=click.IntRange(2, 60), default=6, show_default=True, help="Number of months.")
@click.option("--dataset", default=DEFAULT_DATASET, show_default=True, help="The USDA dataset to imitate.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory for the demo's data. Default: `demo/` in the data directory.",
)
@click.pass_obj
def demo(session: Any, rows: int, releases: int, dataset: str, keep: Path | None) -> None:
    """Publish generated releases with the real pipelines, then show results as an analyst would query them.

    Needs no network: an archive server on this machine posts the releases. Your own data is not touched: the demo
    writes to a directory of its own, which the next demo overwrites.
    """
    from ops.demo.rehearsal import clear_directory, history_until

    started_at = monotonic()
    spec = history_until(utc_now(), dataset, rows, releases)
    data_dir = keep.expanduser().absolute() if keep else Settings.from_environ().data_dir / "demo"
    clear_directory(data_dir)
    _set_up_logging(session)
    click.echo(
        f"Materia's main job on {len(spec.months)} generated releases of {dataset} (about {rows:,} facts each).\n"
        "The figures are invented; their format, revisions and re-keyings follow USDA's.\n"
        f"Data directory: {data_dir}\n"
    )
    settings = _publish(data_dir, spec)
    click.echo()
    _print_results(settings, spec)
    click.echo(f"\ndone in {duration_text(monotonic() - started_at)}. Next commands:\n")
    _print_next_commands(settings)
    offer_console(settings)


def _publish(data_dir: Path, spec: "HistorySpec") -> Settings:
    from ops.demo.archive_server import ArchiveServer
    from ops.demo.rehearsal import demo_settings, demo_steps

    with ArchiveServer(spec.dataset) as archive:
        settings = demo_settings(data_dir, spec.dataset, archive.url)
        for number, step in enumerate(demo_steps(archive, settings, spec), start=1):
            started_at = monotonic()
            click.echo(f"{click.style(str(number), bold=True)}  {step.title}")
            with _show_spinner():
                outcome = step.perform()
            click.echo(click.style(f"   {duration_text(monotonic() - started_at)}: {outcome}", dim=True))
    return settings


def _print_results(settings: Settings, spec: "HistorySpec") -> None:
    from dataflows.serving import ServingReader
    from ops.cli import demo_text
    from ops.demo import findings
    from ops.pipelines.current_file import checked_on

    with ServingReader(settings.serving_path) as reader:
        parts = [
            demo_text.balance_text(findings.world_balance(reader)),
            demo_text.release_text(findings.last_release(reader, REVISIONS_SHOWN)),
            demo_text.fact_text(findings.fact_through_time(reader, checked_on(settings, reader)), spec.months[0]),
        ]
    click.echo("\n\n".join(parts))


def offer_console(settings: Settings) -> None:
    """Ask whether to open the console on the demo's data, if this is a terminal and the console is installed."""
    if not (CONSOLE.exists() and sys.stdin.isatty() and sys.stdout.isatty()):
        return
    try:
        is_confirmed = click.confirm("\nopen the console?", default=True)
    except click.Abort:  # Ctrl+C and Ctrl+D mean no
        click.echo()
        return
    if is_confirmed:
        subprocess.run([CONSOLE], env={**os.environ, **_environ_of(settings)}, check=False)


def _environ_of(settings: Settings) -> dict[str, str]:
    return {"MATERIA_DATA_DIR": str(settings.data_dir), "PSD_DATASET": settings.dataset}


def _print_next_commands(settings: Settings) -> None:
    environ = _environ_of(settings).items()
    assignments = [f"{name}={shlex.quote(value)}" for name, value in environ if value != DEFAULT_DATASET]
    prefix = " ".join([*assignments, *_launch_command()])
    click.echo(f"  {prefix} materia releases")
    click.echo(f"  {prefix} materia query \"FROM serving.psd_asof_coverage('2020-01-01')\"")
    click.echo(f"  {prefix} materia-tui")


def _launch_command() -> list[str]:
    """The words to type before `materia`: the uv command that started this process, if uv did."""
    if "UV" not in os.environ:
        return []
    uv = "uv" if shutil.which("uv") else "python3 -m uv"
    if IS_CHECKOUT:
        return [f"{uv} run"]
    origin = Distribution.from_name("materia").read_text("direct_url.json")
    if origin is None:
        return []
    source = json.loads(origin)
    url, vcs = source["url"], source.get("vcs_info")
    return [f"{uv} tool run --from", shlex.quote(f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url)]


@contextmanager
def _show_spinner() -> Iterator[None]:
    """Show a spinner on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status("working"):
        yield


def _set_up_logging(session: Any) -> None:
    """Keep the pipelines' events in the runs' logs; with --debug print them, too."""
    import logging

    if session.debug:
        session.log_to_terminal()
    else:
        # Without a handler, Python prints warnings to stderr.
        logging.getLogger().addHandler(logging.NullHandler())

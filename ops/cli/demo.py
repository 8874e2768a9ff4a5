"""`materia demo`: the whole main job on generated releases, and what an analyst would look at."""

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


@click.command(short_help="Run the whole main job on generated releases, and look at the outcome.")
@click.option("--rows", type=click.IntRange(2_000), default=50_000, show_default=True, help="Facts in each release.")
@click.option("--releases", type=click.IntRange(2, 60), default=6, show_default=True, help="How many months.")
@click.option("--dataset", default=DEFAULT_DATASET, show_default=True, help="Which of USDA's files to imitate.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep what it makes there, instead of in `demo/` in the data directory.",
)
@click.pass_obj
def demo(session: Any, rows: int, releases: int, dataset: str, keep: Path | None) -> None:
    """Publish generated releases with the real pipelines, then show what an analyst would look at.

    It needs no network: a small archive on this machine posts the releases. Your own data is not touched; what the
    demo makes stays in a directory apart until the next demo.
    """
    from ops.demo.rehearsal import clear_directory, history_until

    began = monotonic()
    spec = history_until(utc_now(), dataset, rows, releases)
    data_dir = keep.expanduser().absolute() if keep else Settings.from_environ().data_dir / "demo"
    clear_directory(data_dir)
    _quiet(session)
    click.echo(
        f"Materia's main job, on {len(spec.months)} generated releases of {dataset} (about {rows:,} facts each).\n"
        "The figures are invented; their format, revisions and re-keyings are as USDA's.\n"
        f"Everything is kept in {data_dir}\n"
    )
    settings = _publish(data_dir, spec)
    click.echo()
    _show(settings, spec)
    click.echo(f"\ndone in {duration_text(monotonic() - began)}. To look further:\n")
    _say_how_to_go_on(settings)
    offer_console(settings)


def _publish(data_dir: Path, spec: "HistorySpec") -> Settings:
    from ops.demo.archive_server import ArchiveServer
    from ops.demo.rehearsal import acts, demo_settings

    with ArchiveServer(spec.dataset) as archive:
        settings = demo_settings(data_dir, spec.dataset, archive.url)
        for number, act in enumerate(acts(archive, settings, spec), start=1):
            began = monotonic()
            click.echo(f"{click.style(str(number), bold=True)}  {act.title}")
            with _waiting():
                outcome = act.perform()
            click.echo(click.style(f"   {duration_text(monotonic() - began)}: {outcome}", dim=True))
    return settings


def _show(settings: Settings, spec: "HistorySpec") -> None:
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
    """Ask whether to open the console on these data; only on a terminal, and where the console is installed."""
    if not (CONSOLE.exists() and sys.stdin.isatty() and sys.stdout.isatty()):
        return
    try:
        wanted = click.confirm("\nopen the console?", default=True)
    except click.Abort:  # ctrl+c and ctrl+d are a no: everything is done already
        click.echo()
        return
    if wanted:
        subprocess.run([CONSOLE], env={**os.environ, **_environ_of(settings)}, check=False)


def _environ_of(settings: Settings) -> dict[str, str]:
    return {"MATERIA_DATA_DIR": str(settings.data_dir), "PSD_DATASET": settings.dataset}


def _say_how_to_go_on(settings: Settings) -> None:
    environ = _environ_of(settings).items()
    shown = [f"{name}={shlex.quote(value)}" for name, value in environ if value != DEFAULT_DATASET]
    typed = " ".join([*shown, *_started_with()])
    click.echo(f"  {typed} materia releases")
    click.echo(f"  {typed} materia query \"FROM serving.psd_asof_coverage('2020-01-01')\"")
    click.echo(f"  {typed} materia-tui")


def _started_with() -> list[str]:
    """What a command line needs before `materia`: where uv started this, what starts it again the same way."""
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
def _waiting() -> Iterator[None]:
    """A sign of life on a terminal; elsewhere the lines before and after are enough."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status("working"):
        yield


def _quiet(session: Any) -> None:
    """The pipelines' events go to the runs' logs only, unless --debug."""
    import logging

    from ops.host.logs import log_to_terminal
    from ops.host.redact import Redactor

    if session.debug:
        log_to_terminal(Redactor.from_environ(), debug=True)
    else:
        # Without any handler Python itself would print the warnings.
        logging.getLogger().addHandler(logging.NullHandler())

"""`materia supervisor`: run due pipelines, once or continuously, and serve /health."""

from typing import Any

import click

from ops.config.settings import Settings


@click.group(short_help="Run due pipelines unattended, and monitor them.")
def supervisor() -> None:
    """Run due pipelines unattended, and monitor them."""


@supervisor.command(short_help="Run due pipelines now, clean up, and send alerts.")
@click.option("--dry-run", is_flag=True, help="Tick in a scratch directory, and print what a real tick would run.")
@click.pass_obj
def tick(session: Any, dry_run: bool) -> None:
    """Run due pipelines now, clean up, and send alerts.

    Exits with 0 even if a run failed: the tick sends an alert, `materia status` reports it, and later ticks retry.
    """
    if dry_run:
        from ops.supervisor.rehearsal import rehearse

        click.echo(rehearse(Settings.from_environ()))
        return
    from ops.supervisor import loop

    settings = _start_logging(session)
    click.echo(loop.once(settings))


@supervisor.command(short_help="Tick repeatedly until a signal arrives.")
@click.pass_obj
def run(session: Any) -> None:
    """Tick every MATERIA_TICK_S seconds until a signal arrives; a running pipeline is stopped first."""
    from ops.supervisor import loop

    loop.run(_start_logging(session), click.echo)


@supervisor.command("test-alert", short_help="Send one alert to ALERT_WEBHOOK_URL.")
@click.pass_context
def test_alert(ctx: click.Context) -> None:
    """Send a test alert to ALERT_WEBHOOK_URL. Exits with 1 if the webhook does not accept it."""
    from ops.health.alerts import send_test
    from ops.host.exits import Exit
    from ops.journal.run import utc_now

    if send_test(_start_logging(ctx.obj), utc_now()):
        click.echo("the webhook accepted the test alert")
        return
    click.echo("the webhook did not accept the test alert (reason above); check ALERT_WEBHOOK_URL", err=True)
    ctx.exit(Exit.FAILED)


@supervisor.command(short_help="Serve the status as JSON at /health, on loopback.")
@click.option("--port", type=click.IntRange(0, 65535), default=8470, show_default=True, help="0: any free port.")
@click.pass_obj
def health(session: Any, port: int) -> None:
    """Serve the status as JSON at http://127.0.0.1:PORT/health: 200 if all is well, 503 if not."""
    from ops.supervisor.health import health_server

    settings = _start_logging(session)
    with health_server(settings, port) as server:
        click.echo(f"http://127.0.0.1:{server.server_address[1]}/health")
        server.serve_forever()


@supervisor.command(short_help="Create the always-on machine if it is missing, and check what it runs.")
@click.option(
    "--commit", default="", help="The commit that must run there. Default: the newest that the host has fetched."
)
@click.pass_obj
def up(session: Any, commit: str) -> None:
    """Create the supervisor's machine at Hetzner if it is missing, and bootstrap it once.

    Afterwards only check it, because the host updates itself: fails if the host refused the commit, or if no tick of
    the commit succeeds within half an hour.
    """
    from ops.supervisor import up as deploy
    from ops.workers.settings import WorkerSettings, provider_of

    session.log_to_terminal()
    workers = WorkerSettings.from_environ()
    deploy.up(provider_of("hetzner", workers), deploy.plan_of(workers, commit=commit), click.echo)


def _start_logging(session: Any) -> Settings:
    """Start logging to stderr and `logs/supervisor.log`; return the settings."""
    from ops.host.logs import log_to_file
    from ops.host.redact import Redactor

    settings = Settings.from_environ()
    session.log_to_terminal()
    log_to_file(settings.log_dir / "supervisor.log", Redactor.from_environ())
    return settings

"""`materia supervisor`: run what is due, once or for ever, and serve /health."""

from typing import Any

import click

from ops.config.settings import Settings


@click.group(short_help="Run what is due, and watch over it unattended.")
def supervisor() -> None:
    """Run what is due, and watch over it unattended."""


@supervisor.command(short_help="Run what is due now, clean up, and send alerts.")
@click.option("--dry-run", is_flag=True, help="Tick in a scratch directory, and print what a real tick would run.")
@click.pass_obj
def tick(session: Any, dry_run: bool) -> None:
    """Run what is due now, clean up, and send alerts.

    Ends with 0 also when a run failed: that is an alert, and it is tried again. `materia status` reports it.
    """
    if dry_run:
        from ops.supervisor.rehearsal import rehearse

        click.echo(rehearse(Settings.from_environ()))
        return
    from ops.supervisor import loop

    settings = _begin(session)
    click.echo(loop.once(settings))


@supervisor.command(short_help="Tick again and again, until a signal comes.")
@click.pass_obj
def run(session: Any) -> None:
    """Tick every MATERIA_TICK_S seconds until a signal comes; a run under way is ended first."""
    from ops.supervisor import loop

    loop.run(_begin(session), click.echo)


@supervisor.command("test-alert", short_help="Send one alert to ALERT_WEBHOOK_URL.")
@click.pass_context
def test_alert(ctx: click.Context) -> None:
    """Send one alert that says it is a test to ALERT_WEBHOOK_URL. Exits with 1 when the webhook did not take it."""
    from ops.health.alerts import send_test
    from ops.host.exits import Exit
    from ops.journal.run import utc_now

    if send_test(_begin(ctx.obj), utc_now()):
        click.echo("the webhook took the test alert")
        return
    click.echo("the webhook did not take the test alert; the line above says why. Check ALERT_WEBHOOK_URL", err=True)
    ctx.exit(Exit.FAILED)


@supervisor.command(short_help="Answer /health on loopback with what `materia status` says.")
@click.option("--port", type=click.IntRange(0, 65535), default=8470, show_default=True, help="0 takes a free one.")
@click.pass_obj
def health(session: Any, port: int) -> None:
    """Answer http://127.0.0.1:PORT/health with JSON: 200 when all is well, 503 when not."""
    from ops.supervisor.health import health_server

    settings = _begin(session)
    with health_server(settings, port) as server:
        click.echo(f"http://127.0.0.1:{server.server_address[1]}/health")
        server.serve_forever()


@supervisor.command(short_help="Create the always-on machine if it is missing, and check what it runs.")
@click.option("--commit", default="", help="The commit that must run there; default: the newest that it has fetched.")
@click.pass_obj
def up(session: Any, commit: str) -> None:
    """Create the supervisor's machine at Hetzner if it is missing, and bootstrap it once.

    Afterwards this only checks it, because the host updates itself: fails when the commit was refused, or when no tick
    of it succeeds within half an hour.
    """
    from ops.host.logs import log_to_terminal
    from ops.host.redact import Redactor
    from ops.supervisor import up as coming_up
    from ops.workers.settings import WorkerSettings, provider_of

    log_to_terminal(Redactor.from_environ(), debug=session.debug)
    workers = WorkerSettings.from_environ()
    coming_up.up(provider_of("hetzner", workers), coming_up.plan_of(workers, commit=commit), click.echo)


def _begin(session: Any) -> Settings:
    """The settings, with events logged to stderr and to `logs/supervisor.log`."""
    from ops.host.logs import log_to_file, log_to_terminal
    from ops.host.redact import Redactor

    settings = Settings.from_environ()
    redact = Redactor.from_environ()
    log_to_terminal(redact, debug=session.debug)
    log_to_file(settings.log_dir / "supervisor.log", redact)
    return settings

"""`materia doctor`: check whether this host can run pipelines."""

import click

from ops.cli.output import print_json
from ops.host.exits import Exit

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command(short_help="Check that this host is fit to run pipelines.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check settings, versions, disk, both databases, landing, Iceberg, clock, esc, SSH and provider.

    Prints a verdict and a next step for each. Exits with 1 if a check failed; warnings do not count.
    """
    from ops.health.doctor import Finding, Verdict, examine
    from ops.host.redact import Redactor

    redact = Redactor.from_environ()
    findings = []
    for found in examine():
        finding = Finding(found.name, found.verdict, redact(found.what), redact(found.next_step))
        findings.append(finding)
        if not as_json:
            verdict = click.style(f"{finding.verdict:<8}", fg=_COLOURS[finding.verdict])
            step = f"\n{'':21}next: {finding.next_step}" if finding.next_step else ""
            click.echo(f"{verdict} {finding.name:<11} {finding.what}{step}")
    failed = [f"{finding.name}: {finding.what}" for finding in findings if finding.verdict is Verdict.FAILED]
    if as_json:
        print_json({"ok": not failed, "findings": findings})
    else:
        # supervisor.sh records the last line as the reason why it refuses a commit.
        click.echo(f"failed: {'; '.join(failed)}" if failed else "fit to run")
    ctx.exit(Exit.FAILED if failed else Exit.DONE)

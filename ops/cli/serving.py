"""`materia serving`: list, roll back and verify the kept generations."""

from dataclasses import asdict
from typing import Any

import click

from dataflows.serving.generation import Generation
from ops.cli.output import ago_text, print_json, size_text, table
from ops.cli.serving_remote import pull, push
from ops.config.settings import Settings
from ops.journal.run import utc_now
from ops.pipelines.generations import Generations, take_generations

_HEAD = ("generation", "made", "newest release", "releases", "fact versions", "size", "code", "forced")
_NUMBERS = ("generation", "releases", "fact versions", "size")


@click.group(short_help="List, roll back, verify, push or pull generations.")
def serving() -> None:
    """List generations, roll back to one, verify one, or sync them through object storage."""


serving.add_command(push)
serving.add_command(pull)


@serving.command("list", short_help="List the kept generations, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_generations(as_json: bool) -> None:
    """List the kept generations, newest first; `*` marks the served one."""
    found = take_generations(Settings.from_environ())
    if found.notice:
        click.echo(f"{click.style('notice:', fg='yellow')} {found.notice}", err=True)
    if as_json:
        print_json([_record(generation, found) for generation in found.kept])
    else:
        click.echo(_text(found))


@serving.command(short_help="Serve an earlier generation again.")
@click.argument("number", metavar="[N]", type=click.IntRange(1), required=False)
def rollback(number: int | None) -> None:
    """Serve generation N again; without N, the one before the served one.

    Readers see it immediately. It stays until a new release is landed or the models change.
    """
    from ops.pipelines import generations

    click.echo(generations.rollback(Settings.from_environ(), number))
    click.echo("it stays until a new release is landed or the models change; `materia serving list` shows all")


@serving.command(short_help="Check that a generation is intact.")
@click.argument("number", metavar="[N]", type=click.IntRange(1), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(number: int | None, as_json: bool) -> None:
    """Check that generation N (without N, the served one) is intact.

    Compares its sha256 with the published one, and reads every row in a new process.
    """
    from ops.pipelines import generations

    generation = generations.verify(Settings.from_environ(), number)
    if as_json:
        print_json({"ok": True, "generation": generation})
        return
    rows = sum(generation.row_counts.values())
    click.echo(
        f"generation {generation.number} is intact: its sha256 is the published one, and a new process read "
        f"{rows:,} rows of {len(generation.row_counts)} tables ({size_text(generation.size_bytes)})"
    )


def _record(generation: Generation, found: Generations) -> dict[str, Any]:
    age_s = round((utc_now() - generation.created_at).total_seconds(), 1)
    return {**asdict(generation), "served": _is_served(generation.number, found), "age_s": age_s}


def _is_served(number: int, found: Generations) -> bool:
    return found.served is not None and found.served.number == number


def _text(found: Generations) -> str:
    now = utc_now()
    rows = [
        (
            f"{'* ' if _is_served(each.number, found) else ''}{each.number}",
            ago_text(each.created_at, now),
            str(each.newest_released_on or "unknown"),
            str(len(each.snapshots)),
            f"{each.row_counts.get('fct_psd', 0):,}",
            size_text(each.size_bytes),
            each.code_version,
            each.forced_reason or "",
        )
        for each in found.kept
    ]
    if not rows:
        return "no generation is kept yet; next: materia run-all"
    foreign = "" if any(_is_served(each.number, found) for each in found.kept) else "\n\nnone of these is served"
    return table(_HEAD, rows, right=_NUMBERS) + foreign

"""`materia releases`: list the landed releases and what each changed."""

from dataclasses import asdict
from typing import Any

import click

from ops.cli.output import ago_text, generation_text, print_json, size_text, table
from ops.config.settings import Settings
from ops.journal.run import utc_now
from ops.pipelines.releases import Changes, LandedRelease, Releases, take_releases

_HEAD = ("month", "released", "facts", "new", "revised", "removed", "restated", "standing", "size", "landed", "key")
_NUMBERS = ("facts", "new", "revised", "removed", "restated", "size")


@click.command(short_help="List the landed releases and what each changed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def releases(as_json: bool) -> None:
    """List the landed releases, newest first, with what each changed according to the served generation."""
    found = take_releases(Settings.from_environ())
    for notice in found.notices:
        click.echo(f"{click.style('notice:', fg='yellow')} {notice}", err=True)
    if as_json:
        print_json([_record(release) for release in found.releases])
    else:
        click.echo(_text(found))


def _record(release: LandedRelease) -> dict[str, Any]:
    changes = asdict(release.changes) if release.changes else dict.fromkeys(Changes.__dataclass_fields__)
    counts = {f"facts_{kind}": count for kind, count in changes.items()}
    snapshot = release.snapshot
    return {"month": str(snapshot.month), **asdict(snapshot), "standing": release.standing, **counts}


def _text(found: Releases) -> str:
    if not found.releases:
        return "no releases are landed yet; next: materia run-all"
    now = utc_now()
    served = f"served: {generation_text(found.generation, now)}" if found.generation else "served: nothing"
    rows = [
        (
            str(release.snapshot.month),
            release.snapshot.released_on.isoformat(),
            f"{release.snapshot.row_count:,}",
            *_counts(release.changes),
            release.standing,
            size_text(release.snapshot.size_bytes),
            ago_text(release.snapshot.landed_at, now),
            release.snapshot.key,
        )
        for release in found.releases
    ]
    return f"{served}\n\n{table(_HEAD, rows, right=_NUMBERS)}"


def _counts(changes: Changes | None) -> tuple[str, ...]:
    if changes is None:
        return ("-",) * len(Changes.__dataclass_fields__)
    return tuple(f"{count:,}" for count in (changes.new, changes.revised, changes.removed, changes.restated))

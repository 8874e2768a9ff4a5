"""`materia releases`: list the landed releases and what each changed, or show what mattered in one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from ops.cli.output import ago_text, generation_text, print_json, size_text, table
from ops.config.settings import Settings
from ops.host.formatting import change_text, number_text, percent_text
from ops.journal.run import utc_now
from ops.pipelines.release_summary import ReleaseSummary, headline, summarize
from ops.pipelines.releases import Changes, LandedRelease, Releases, take_releases

_HEAD = (
    "month", "released", "compared with", "facts", "new", "revised", "removed", "restated", "standing", "size",
    "landed", "key",
)  # fmt: skip
_NUMBERS = ("facts", "new", "revised", "removed", "restated", "size")


@click.group(
    invoke_without_command=True,
    short_help="List the landed releases and what each changed; `releases show` shows what mattered in one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def releases(ctx: click.Context, as_json: bool) -> None:
    """List the landed releases, newest first, with what each changed according to the served generation."""
    if ctx.invoked_subcommand is not None:
        return
    found = take_releases(Settings.from_environ())
    for notice in found.notices:
        click.echo(f"{click.style('notice:', fg='yellow')} {notice}", err=True)
    if as_json:
        print_json([_record(release) for release in found.releases])
    else:
        click.echo(_text(found))


@releases.command(short_help="Show what mattered in a release: its drivers, the world and the main exporters.")
@click.argument("release", required=False)
@click.option("--commodity", help="Only this commodity: a code, a name or a part of one.")
@click.option(
    "--since-year", type=click.IntRange(1900, 2200), help="Market years from this one on; default: the newest two."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, for a note.")
@click.option("--headline", "as_headline", is_flag=True, help="Print one line, as the webhook gets it.")
def show(
    release: str | None,
    commodity: str | None,
    since_year: int | None,
    as_json: bool,
    as_markdown: bool,
    as_headline: bool,
) -> None:
    """Show what mattered in RELEASE, a month (2025-11) or a day (2025-11-14); by default the newest one.

    Drivers are changes that follow from no other change of the release, largest first in tonnes. The balances give
    the world and the five main exporters before and after; exporters' figures that did not change are left out.
    """
    if as_json + as_markdown + as_headline > 1:
        raise click.UsageError("--json, --markdown and --headline cannot be combined; choose one")
    from dataflows.serving import ServingReader

    settings = Settings.from_environ()
    with ServingReader(settings.serving_path, threads=1) as reader:
        summary = summarize(reader, release, commodity, since_year)
    if as_json:
        print_json(asdict(summary) | {"headline": headline(summary, settings.dataset)})
    elif as_headline:
        click.echo(headline(summary, settings.dataset))
    elif as_markdown:
        click.echo("\n\n".join(_parts(summary, settings.dataset, "# ", "## ", _markdown)))
    else:
        click.echo("\n\n".join(_parts(summary, settings.dataset, "", "", table)))


Table = Callable[[Sequence[str], Sequence[Sequence[str]], Sequence[str]], str]

_DRIVER_HEAD = ("commodity", "country", "year", "attribute", "before", "now", "change", "%", "unusual", "unit")
_FIGURE_HEAD = ("place", "attribute", "before", "now", "change", "%")
_FIGURE_NUMBERS = ("year", "before", "now", "change", "%", "unusual")


def _parts(summary: ReleaseSummary, dataset: str, title: str, heading: str, table: Table) -> Iterator[str]:
    release = summary.release
    compared = f"compared with {release.compared_with}" if release.compared_with else "the baseline, compared with none"
    yield f"{title}{dataset} {release.release_month:%Y-%m}, released {release.released_on}, {compared}"
    if summary.wasde:
        yield summary.wasde
    if release.compared_with is None:
        return
    changes = summary.changes
    yield (
        f"{sum(each.facts_revised for each in changes):,} facts of {len(changes)} commodities revised, "
        f"{sum(each.facts_new for each in changes):,} new, {sum(each.facts_removed for each in changes):,} removed"
    )
    if restated := [each.commodity_name for each in changes if each.facts_restated]:
        yield f"Re-keyed, so that values stand under another market year: {', '.join(restated)}"
    rows = [
        (
            each.commodity_name, each.country_name, str(each.market_year), each.attribute_name,
            number_text(each.previous_value), number_text(each.value), change_text(each.change),
            percent_text(each.change_pct), "-" if each.change_z is None else f"{each.change_z:+.1f} sd", each.unit_name,
        )
        for each in summary.drivers
    ]  # fmt: skip
    yield f"{heading}Largest drivers"
    yield table(_DRIVER_HEAD, rows, _FIGURE_NUMBERS) or "none in these market years"
    for balance in summary.balances:
        yield f"{heading}{balance.commodity_name} {balance.market_year}, {balance.unit_name.strip('()')}"
        figures = [
            (
                each.place, each.attribute_name, number_text(each.before), number_text(each.now),
                change_text(each.change), percent_text(each.change_pct),
            )
            for each in balance.figures
        ]  # fmt: skip
        yield table(_FIGURE_HEAD, figures, _FIGURE_NUMBERS)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    if not rows:
        return ""
    marks = ("---:" if name in right else "---" for name in head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, tuple(marks), *rows))


def _record(release: LandedRelease) -> dict[str, Any]:
    changes = asdict(release.changes) if release.changes else dict.fromkeys(Changes.__dataclass_fields__)
    counts = {f"facts_{kind}": count for kind, count in changes.items()}
    snapshot = release.snapshot
    return {
        "month": str(snapshot.month),
        **asdict(snapshot),
        "standing": release.standing,
        "compared_with": release.compared_with,
        **counts,
    }


def _text(found: Releases) -> str:
    if not found.releases:
        return "no releases are landed yet; next: materia run-all"
    now = utc_now()
    served = f"served: {generation_text(found.generation, now)}" if found.generation else "served: nothing"
    if found.generation and found.generation.wasde_check:
        served = f"{served}\n{found.generation.wasde_check}"
    rows = [
        (
            str(release.snapshot.month),
            release.snapshot.released_on.isoformat(),
            str(release.compared_with or "-"),
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

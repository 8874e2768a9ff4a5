"""The demo's results as text and tables."""

import click

from dataflows.source.release import Month
from ops.cli.output import table
from ops.demo.findings import FactThroughTime, LastRelease, WorldBalance
from ops.host.formatting import number_text


def balance_text(balance: WorldBalance) -> str:
    """The world balance, two market years side by side."""
    later = balance.later_year
    earlier_head, later_head = str(later - 1), str(later)
    rows = [
        (
            line.attribute,
            number_text(line.earlier),
            number_text(line.later),
            _percent(line.earlier, line.later),
            _unit(line.unit),
        )
        for line in balance.lines
    ]
    head = ("", earlier_head, later_head, "change", "unit")
    return _part(
        f"{balance.commodity}: the world balance, market years {later - 1} and {later}",
        "Current values summed over all countries; yield is computed from the sums.",
        table(head, rows, right=(earlier_head, later_head, "change")),
    )


def release_text(release: LastRelease) -> str:
    """What the newest release changed, its largest revisions first."""
    rows = [
        (
            revision.commodity_name,
            revision.country_name,
            str(revision.key.market_year),
            revision.attribute_name,
            number_text(revision.previous_value),
            "→",
            number_text(revision.value),
            f"{revision.change:+,.0f}",
            _unit(revision.unit_name),
        )
        for revision in release.largest
    ]
    changed = release.release
    head = ("commodity", "country", "year", "attribute", "from", "", "to", "change", "unit")
    counts = (
        f"{changed.facts_revised:,} facts revised, {changed.facts_new:,} new, {changed.facts_removed:,} removed, "
        f"{changed.facts_restated:,} restated.\n"
    )
    if release.rekeyed:
        counts += (
            f"{click.style('restated', fg='yellow')}: {', '.join(release.rekeyed)} moved to other market years with "
            "unchanged values; these are not revisions.\n"
        )
    if rows:
        counts += "The largest revisions by share of world production, one per balance sheet:"
    return _part(
        f"What the release of {changed.released_on} changed",
        counts.rstrip(),
        table(head, rows, right=("year", "from", "to", "change")) or "no value was revised",
    )


def fact_text(fact: FactThroughTime | None, first: Month) -> str:
    """One fact as of several days, each answer marked certain or uncertain."""
    if fact is None:
        return _part("The same fact through time", "", f"no fact was revised since {first}")
    rows = [
        (
            answer.day.isoformat(),
            number_text(answer.value),
            click.style("certain", fg="green") if answer.certain else click.style("uncertain", fg="yellow"),
            f"the release of {answer.last_seen_on} shows it"
            if answer.certain
            else f"last seen on {answer.last_seen_on}; it may have changed since",
        )
        for answer in fact.answers
    ]
    return _part(
        f"What did USDA say? {fact.country}, {fact.commodity}, {fact.attribute.lower()} of {fact.market_year}",
        f"The same fact as of three dates since {first}, in {_unit(fact.unit)}: only what was known on that day.",
        table(("as of", "value", "", "because"), rows, right=("value",)),
    )


def _part(title: str, explanation: str, body: str) -> str:
    head = "\n".join(line for line in (click.style(title, bold=True), explanation) if line)
    return f"{head}\n\n{body}"


def _percent(earlier: float | None, later: float | None) -> str:
    return f"{(later - earlier) / earlier:+.1%}" if earlier and later is not None else "-"


def _unit(unit: str) -> str:
    return unit.strip("()")

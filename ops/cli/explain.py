"""`materia explain`: the evidence for one fact."""

from datetime import date
from typing import Any

import click

from ops.cli.output import print_json, table
from ops.config.settings import Settings
from ops.host.days import FORMS, parse_day
from ops.host.formatting import number_text
from ops.journal.run import utc_now

_HEAD = ("released", "value", "stamp", "version", "line", "snapshot", "sha256")
_COLOURS = {"certain": "green", "uncertain": "yellow", "unknown": "red", "absent": "red"}


class DayType(click.ParamType):
    """A day, as `parse_day` takes it."""

    name = "DAY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        return value if isinstance(value, date) else parse_day(value, utc_now().date())


@click.command(short_help="Print the evidence for one fact: files, lines, stamps, and the reasons for its certainty.")
@click.argument("fact")
@click.option("--as-of", "day", type=DayType(), help=f"The day to explain: {FORMS}. Default: today.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(fact: str, day: date | None, as_json: bool) -> None:
    """Print which landed files show a fact, and why it is certain, uncertain or unknown on a day.

    FACT is COMMODITY/COUNTRY/MARKET_YEAR/ATTRIBUTE in codes or names. Append /UNIT if the fact has several units.

    \b
    materia explain 0440000/US/2024/028
    materia explain 'Corn/"United States"/2024/Production' --as-of 2025-11-30
    """
    from ops.explain import explain as explanation_of

    found = explanation_of(Settings.from_environ(), fact, day or utc_now().date())
    for notice in found.notices:
        click.echo(f"{click.style('notice:', fg='yellow')} {notice}", err=True)
    if as_json:
        print_json(found)
        return
    key = found.fact
    click.echo(f"{key.attribute} of {key.commodity} in {key.country}, market year {key.market_year}, {key.unit}")
    standing = click.style(found.standing, fg=_COLOURS[found.standing])
    value = "" if found.value is None else f"{number_text(found.value)}, "
    click.echo(f"on {found.day}: {value}{standing} (generation {found.generation})")
    for reason in found.reasons:
        click.echo(f"  {reason}")
    click.echo()
    versions = [
        (
            str(each.number),
            number_text(each.value),
            str(each.valid_from),
            str(each.valid_to or ""),
            str(each.last_seen_on),
        )
        for each in found.versions
    ]
    click.echo(table(("version", "value", "valid from", "valid to", "last seen"), versions, right=("value",)))
    click.echo()
    rows = [
        (
            str(each.released_on),
            number_text(each.value, "not shown"),
            each.stamp or "",
            str(each.version or "") if each.is_served else "not served",
            str(each.line or ""),
            each.snapshot_key,
            each.sha256,
        )
        for each in found.shown
    ]
    click.echo(table(_HEAD, rows, right=("value", "line")))

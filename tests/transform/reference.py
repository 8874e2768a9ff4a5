"""What the serving tables must hold, computed the slow way from the contract: one fact and one release at a time."""

import calendar
import csv
import io
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from ops.demo.generator import GeneratedRelease
from tests.support.workshop import Workshop

Fact = tuple[str, str, int, str, str]
"""commodity_code, country_code, market_year, attribute_id, unit_id"""


KINDS = ("new", "revised", "removed", "restated")
KNOWN_REKEYINGS = {"0711100": date(2023, 12, 31)}
"""Commodities that USDA re-keyed, and the day by which it had."""


@dataclass(frozen=True)
class Shown:
    """What a release says of a fact."""

    value: Decimal
    stamp: date | None
    """The first of the month that the sheet is stamped with; None for Month 00."""


@dataclass(frozen=True)
class Release:
    """A release as its CSV reads."""

    day: date
    facts: Mapping[Fact, Shown]


@dataclass(frozen=True)
class Version:
    """A run of snapshots that show one value."""

    fact: Fact
    value: Decimal
    stamp: date | None
    valid_from: date
    last_seen_on: date
    valid_to: date | None = None


def read(release: GeneratedRelease) -> Release:
    """The release as USDA's readers see it."""
    with zipfile.ZipFile(io.BytesIO(release.zip_bytes)) as archive:
        text = archive.read(archive.namelist()[0]).decode("ascii")
    rows = csv.DictReader(io.StringIO(text))
    return Release(release.published_at.date(), {_fact(row): _shown(row) for row in rows})


def versions(releases: Iterable[Release], rekeyed: Mapping[str, date] | None = None) -> set[Version]:
    """Every version of every fact. `rekeyed`: which release moved a commodity's market years."""
    ordered = sorted(releases, key=lambda release: release.day)
    facts = {fact for release in ordered for fact in release.facts}
    return {version for fact in facts for version in _versions_of(fact, ordered, (rekeyed or {}).get(fact[0]))}


def rekeyings(workshop: Workshop) -> dict[str, date]:
    """The commodities whose market years a landed release moved, and that release's day, as the lakehouse found."""
    return dict(workshop.query("SELECT commodity_code, released_on FROM cleaned.cln_psdalldata__rekeying"))


def changes(before: Release, after: Release, rekeyed: Collection[str] = ()) -> dict[str, set[Fact]]:
    """The facts that a release changed, by kind; in `rekeyed` commodities each is restated."""
    found: dict[str, set[Fact]] = {kind: set() for kind in KINDS}
    for fact in before.facts.keys() | after.facts.keys():
        old, new = before.facts.get(fact), after.facts.get(fact)
        if (old and old.value) != (new and new.value):
            kind = "new" if old is None else "removed" if new is None else "revised"
            found["restated" if fact[0] in rekeyed else kind].add(fact)
    return found


def counts(before: Release, after: Release, rekeyed: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
    """How many facts of each commodity a release changed, in the order of KINDS."""
    changed = changes(before, after, rekeyed)
    commodities = {fact[0] for fact in before.facts.keys() | after.facts.keys()}
    return {each: tuple(sum(fact[0] == each for fact in changed[kind]) for kind in KINDS) for each in commodities}


def served_versions(workshop: Workshop) -> set[Version]:
    """The versions that `fct_psd` serves."""
    rows = workshop.query(
        "SELECT commodity_code, country_code, market_year, attribute_id, unit_id, value::DECIMAL(18, 4),"
        " reported_month, valid_from, last_seen_on, valid_to FROM serving.fct_psd"
    )
    found = {Version(tuple(row[:5]), *row[5:]) for row in rows}
    assert len(found) == len(rows)
    return found


def _versions_of(fact: Fact, releases: list[Release], rekeyed_on: date | None) -> list[Version]:
    found: list[Version] = []
    standing: Version | None = None
    for release, before in zip(releases, [None, *releases], strict=False):
        shown = release.facts.get(fact)
        if standing and shown and shown.value == standing.value:
            standing = replace(standing, last_seen_on=release.day)
            continue
        follower = None
        if shown:
            public_from = release.day if release.day == rekeyed_on else _public_from(fact, shown, release, before)
            follower = Version(fact, shown.value, shown.stamp, public_from, release.day)
        if standing:
            found.append(replace(standing, valid_to=follower.valid_from if follower else release.day))
        standing = follower
    return [*found, standing] if standing else found


def _public_from(fact: Fact, shown: Shown, release: Release, before: Release | None) -> date:
    """The end of the stamp's month when that is earlier than the release, unless the release before disproves it."""
    if shown.stamp is None:
        return release.day
    since = max(_end_of_month(shown.stamp), KNOWN_REKEYINGS.get(fact[0], date.min))
    if before and not _is_proof(shown.stamp, before.facts.get(fact), since, before.day):
        return release.day
    return min(release.day, since)


def _is_proof(stamp: date, earlier: Shown | None, since: date, earlier_day: date) -> bool:
    restamped = earlier is not None and earlier.stamp is not None and stamp > earlier.stamp
    return since > earlier_day and (stamp > earlier_day or restamped)


def _fact(row: Mapping[str, str]) -> Fact:
    return (
        row["Commodity_Code"],
        row["Country_Code"],
        int(row["Market_Year"]),
        row["Attribute_ID"],
        row["Unit_ID"],
    )


def _shown(row: Mapping[str, str]) -> Shown:
    month = int(row["Month"])
    return Shown(Decimal(row["Value"]), date(int(row["Calendar_Year"]), month, 1) if month else None)


def _end_of_month(first: date) -> date:
    return first.replace(day=calendar.monthrange(first.year, first.month)[1])

"""The evidence for one fact: which landed files show it, and why it is certain, uncertain or unknown on a day.

The verdict is that of `serving.psd_asof`, so that both never disagree; the reasons are read off the landed files.
"""

import csv
import difflib
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflows.errors import MateriaError
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.sql_text import literal
from ops.config.settings import Settings
from ops.pipelines.current_file import checked_on
from ops.pipelines.handover import landing_of, remote_of

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

SYNTAX = "COMMODITY/COUNTRY/MARKET_YEAR/ATTRIBUTE[/UNIT]"
EXAMPLES = '0440000/US/2024/028, or Corn/"United States"/2024/Production'
_NEAR = 6
_SPAN_TEXTS = {
    "touched": "a posting that is not landed touched this balance sheet, and may have shown other values",
    "rekeyed": "USDA moved the commodity's market years, and no landed file tells on which day",
    "unstamped": "the stamp has month 00, which tells nothing of the days between landed releases",
}
"""What the reasons of `fct_uncertain_span` say."""
_PARTS = (
    ("commodity", "dim_commodity", "commodity_code", "commodity_name"),
    ("country", "dim_country", "country_code", "country_name"),
    ("attribute", "dim_attribute", "attribute_id", "attribute_name"),
)


class FactError(MateriaError):
    """The text names no fact, or more than one."""

    exit_code = 2


@dataclass(frozen=True)
class Named:
    """A code and USDA's name for it."""

    code: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.code})"


@dataclass(frozen=True)
class Fact:
    """The key of a fact."""

    commodity: Named
    country: Named
    market_year: int
    attribute: Named
    unit: Named


@dataclass(frozen=True)
class Shown:
    """What one landed file says of the fact; without a value it does not hold the fact."""

    released_on: date
    snapshot_key: str
    sha256: str
    member: str
    line: int | None
    """Of the CSV in the landed zip; the header is line 1."""
    value: float | None
    stamp: str | None
    """Calendar_Year-Month; month 00 says that USDA gave none."""
    version: int | None
    """Which of `versions` it belongs to, from 1; None for a file that serving does not use or without the fact."""
    is_served: bool


@dataclass(frozen=True)
class Version:
    """A version of the fact, as it is served."""

    number: int
    value: float
    valid_from: date
    valid_to: date | None
    last_seen_on: date


@dataclass(frozen=True)
class Span:
    """Days on which a posting that is not landed may have shown another value (`fct_uncertain_span`)."""

    reason: str
    """`touched`, `rekeyed` or `unstamped`."""
    uncertain_from: date
    uncertain_to: date | None


@dataclass(frozen=True)
class Stand:
    """How long the newest release on or before the day stands, for the fact's commodity (`dim_release`)."""

    released_on: date
    shown_from: date
    """The first day on which its file is evidence; later than `released_on` for a late correction."""
    next_release_due: date | None
    """For a commodity of the WASDE cycle the next day on which USDA may release; else None."""
    checked_on: date | None
    """For the newest release the last day on which USDA's current file was that release's; else None."""

    @property
    def stands_until(self) -> date:
        """The last day on which no other posting can have come since."""
        ends = (each - timedelta(days=1) for each in (self.next_release_due, self.checked_on) if each)
        return max((self.released_on, *ends))


@dataclass(frozen=True)
class Explanation:
    """The verdict on a fact on a day, and the evidence."""

    fact: Fact
    day: date
    standing: str
    """`certain`, `uncertain`, `unknown` (no landed file tells) or `absent` (no longer shown)."""
    value: float | None
    reasons: tuple[str, ...]
    versions: tuple[Version, ...]
    shown: tuple[Shown, ...]
    notices: tuple[str, ...]
    generation: int
    checked_on: date | None
    """The last day on which USDA's current file was what is served; None when no check says so."""


def explain(settings: Settings, text: str, day: date) -> Explanation:
    """The evidence for the fact that `text` names. Raises FactError, ServingError or LandingError."""
    from dataflows.serving import ServingReader

    words = _words(text)
    landing = landing_of(settings, remote_of(settings))
    snapshots = [each for each in landing.snapshots() if each.dataset == settings.dataset]
    with ServingReader(settings.serving_path, threads=1) as reader:
        fact = _fact(reader, words)
        key = _condition(fact)
        versions = tuple(_versions(reader, key))
        released = dict(_rows(reader, "SELECT snapshot_key, released_on FROM serving.dim_release"))
        check = checked_on(settings, reader, landing)
        argument = f", checked_on := DATE '{check}'" if check else ""
        found = _rows(reader, f"SELECT value, certain FROM serving.psd_asof(DATE '{day}'{argument}) WHERE {key}")
        stand = _stand(reader, fact, day, check)
        spans = tuple(_spans(reader, fact, day))
        generation = reader.query("SELECT 1").generation.number
    rows = LocalLanding(settings.landing_dir)
    readable = [each for each in snapshots if rows.rows_path(each).exists()]
    lines = _lines({each.key: rows.rows_path(each) for each in readable}, key)
    shown = tuple(_shown(each, lines.get(each.key), released.get(each.key), versions) for each in readable)
    notices = tuple(_notices(snapshots, readable, released))
    value, standing = (found[0][0], "certain" if found[0][1] else "uncertain") if found else (None, "")
    standing = standing or ("unknown" if day < versions[0].valid_from else "absent")
    served = [each for each in shown if each.is_served]
    reasons = tuple(_reasons(standing, day, value, versions, served, stand, spans))
    return Explanation(fact, day, standing, value, reasons, versions, shown, notices, generation, check)


def _words(text: str) -> list[str]:
    words = [word.strip() for word in next(csv.reader([text], delimiter="/"), [])]
    if len(words) not in (4, 5) or not all(words) or not words[2].isdecimal():
        raise FactError(f"{text!r} names no fact; write {SYNTAX}, such as {EXAMPLES}")
    return words


def _fact(reader: "ServingReader", words: Sequence[str]) -> Fact:
    commodity, country, attribute = (
        _named(reader, part, word) for part, word in zip(_PARTS, (words[0], words[1], words[3]), strict=True)
    )
    fact = Fact(commodity, country, int(words[2]), attribute, Named("", ""))
    units = [
        Named(*row)
        for row in _rows(reader, f"SELECT DISTINCT unit_id, unit_name FROM fct_psd WHERE {_condition(fact)}")
    ]
    if not units:
        raise FactError(_no_fact(reader, fact))
    wanted = [unit for unit in units if len(words) < 5 or _is(unit, words[4])]
    if len(wanted) != 1:
        known = ", ".join(map(str, sorted(units, key=lambda unit: unit.code)))
        raise FactError(f"{'/'.join(words[:4])} is served in {known}; add the unit: {SYNTAX}")
    return replace(fact, unit=wanted[0])


def _named(reader: "ServingReader", part: tuple[str, str, str, str], word: str) -> Named:
    what, table, code, name = part
    known = [Named(*row) for row in _rows(reader, f"SELECT {code}, {name} FROM serving.{table} ORDER BY 1")]
    found = [each for each in known if _is(each, word)]
    if len(found) != 1:
        near = found or _near(known, word)
        hint = f"near matches: {', '.join(map(str, near))}" if near else f"`materia query 'FROM {table}'` lists them"
        raise FactError(f"{'more than one' if found else 'no'} {what} is called {word!r}; {hint}")
    return found[0]


def _is(named: Named, word: str) -> bool:
    return named.code == word.upper().zfill(len(named.code)) or named.name.casefold() == word.casefold()


def _near(known: Iterable[Named], word: str) -> list[Named]:
    """Names that hold the word first, then names and codes that are spelled alike."""
    spelled = {text.casefold(): each for each in known for text in (each.name, each.code)}
    wanted = word.casefold()
    found = [each for text, each in spelled.items() if wanted in text]
    found += [spelled[text] for text in difflib.get_close_matches(wanted, spelled, n=_NEAR)]
    return list(dict.fromkeys(found))[:_NEAR]


def _no_fact(reader: "ServingReader", fact: Fact) -> str:
    """What of the key is served, when the whole is not."""
    where = f"commodity_code = {literal(fact.commodity.code)} AND country_code = {literal(fact.country.code)}"
    same = f"{where} AND attribute_id = {literal(fact.attribute.code)}"
    first, last = _rows(reader, f"SELECT MIN(market_year), MAX(market_year) FROM fct_psd WHERE {same}")[0]
    if first is not None:
        near = f"it is served for market years {first} to {last}"
    else:
        names = "FROM fct_psd JOIN dim_attribute USING (attribute_id)"
        known = [
            Named(*row) for row in _rows(reader, f"SELECT DISTINCT attribute_id, attribute_name {names} WHERE {where}")
        ]
        listed = ", ".join(map(str, sorted(known, key=lambda each: each.code)))
        near = f"its attributes are {listed}" if known else f"{fact.country} has no facts of {fact.commodity}"
    return f"no release shows {fact.attribute} of {fact.commodity} in {fact.country} for {fact.market_year}; {near}"


def _condition(fact: Fact) -> str:
    texts = {
        "commodity_code": fact.commodity.code,
        "country_code": fact.country.code,
        "attribute_id": fact.attribute.code,
        "unit_id": fact.unit.code,
    }
    conditions = [f"{name} = {literal(code)}" for name, code in texts.items() if code]
    return " AND ".join([*conditions, f"market_year = {fact.market_year}"])


def _versions(reader: "ServingReader", key: str) -> Iterator[Version]:
    columns = "value, valid_from, valid_to, last_seen_on"
    for number, row in enumerate(_rows(reader, f"SELECT {columns} FROM fct_psd WHERE {key} ORDER BY valid_from"), 1):
        yield Version(number, *row)


def _stand(reader: "ServingReader", fact: Fact, day: date, check: date | None) -> Stand | None:
    sql = f"""
        SELECT
            released_on, shown_from, CASE WHEN is_wasde_cycle THEN next_release_due END,
            CASE WHEN released_on = (SELECT MAX(released_on) FROM serving.dim_release) THEN {_date(check)} END
        FROM serving.dim_release
        CROSS JOIN serving.dim_commodity
        WHERE commodity_code = {literal(fact.commodity.code)} AND released_on <= {_date(day)}
        ORDER BY released_on DESC
        LIMIT 1
    """
    return next((Stand(*row) for row in _rows(reader, sql)), None)


def _spans(reader: "ServingReader", fact: Fact, day: date) -> Iterator[Span]:
    sql = f"""
        SELECT reason, uncertain_from, uncertain_to
        FROM serving.fct_uncertain_span
        WHERE commodity_code = {literal(fact.commodity.code)}
            AND (country_code IS NULL OR country_code = {literal(fact.country.code)})
            AND (market_year IS NULL OR market_year = {fact.market_year})
            AND uncertain_from <= {_date(day)} AND (uncertain_to IS NULL OR {_date(day)} <= uncertain_to)
        ORDER BY reason, uncertain_from
    """
    yield from (Span(*row) for row in _rows(reader, sql))


def _lines(paths: Mapping[str, Path], key: str) -> dict[str, tuple[int, float, str]]:
    """Per snapshot the line of its CSV, the value and the stamp. The rows keep the order of the CSV's lines."""
    import duckdb

    names = {str(path): snapshot_key for snapshot_key, path in paths.items()}
    if not names:
        return {}
    files = ", ".join(map(literal, names))
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT filename, file_row_number + 2, value::DOUBLE, calendar_year || '-' || month "
            f"FROM read_parquet([{files}], filename=true, file_row_number=true, hive_partitioning=false) "
            f"WHERE {key.replace('market_year = ', 'market_year::INT = ')}"
        ).fetchall()
    return {names[name]: (line, value, stamp) for name, line, value, stamp in found}


def _shown(
    snapshot: Snapshot, line: tuple[int, float, str] | None, served_on: date | None, versions: Sequence[Version]
) -> Shown:
    number, value, stamp = line or (None, None, None)
    version = next(
        (
            each.number
            for each in versions
            if served_on is not None and each.value == value and each.valid_from <= served_on <= each.last_seen_on
        ),
        None,
    )
    return Shown(
        released_on=served_on or snapshot.released_on,
        snapshot_key=snapshot.key,
        sha256=snapshot.sha256,
        member=snapshot.member,
        line=number,
        value=value,
        stamp=stamp,
        version=version,
        is_served=served_on is not None,
    )


def _notices(
    snapshots: Sequence[Snapshot], readable: Sequence[Snapshot], released: Mapping[str, date]
) -> Iterator[str]:
    for each in snapshots:
        if each not in readable:
            yield f"the rows of {each.key} ({each.month}) are not here; `materia pipeline run transform` fetches them"
    landed = {each.key for each in snapshots}
    for key in sorted(released.keys() - landed):
        yield f"the served generation was made with {key}, which is not landed here: its evidence is missing"


def _reasons(
    standing: str,
    day: date,
    value: float | None,
    versions: Sequence[Version],
    shown: Sequence[Shown],
    stand: Stand | None,
    spans: Sequence[Span],
) -> Iterator[str]:
    """Why the verdict is what it is, from the files around the day, the release calendar and the uncertain spans."""
    before = max((each for each in shown if each.released_on <= day), key=lambda each: each.released_on, default=None)
    after = min((each for each in shown if each.released_on > day), key=lambda each: each.released_on, default=None)
    if standing == "unknown":
        yield f"no landed file tells the value before {versions[0].valid_from}"
        yield f"before {day}: {_told(before)}; after: {_told(after)}"
    elif standing == "absent":
        yield f"the last release that shows it is that of {versions[-1].last_seen_on}; since then: {_told(before)}"
    elif standing == "certain":
        evidence = tuple(_evidence(day, value, before, after, stand))
        yield from evidence or (f"the evidence is not readable here: {_told(before)}; {_told(after)}",)
    else:
        yield from _doubts(day, value, before, after, stand, spans)


def _evidence(
    day: date, value: float | None, before: Shown | None, after: Shown | None, stand: Stand | None
) -> Iterator[str]:
    """The kinds of evidence that cover the day: shown, untouched, stamped."""
    shows_before, shows_after = (each is not None and each.value == value for each in (before, after))
    is_its_file = stand and before and before.released_on == stand.released_on
    if stand and is_its_file and shows_before and stand.shown_from <= day <= stand.stands_until:
        yield f"shown: {_told(before)}{_standing_text(day, stand)}"
    if before and after and shows_before and shows_after and before.stamp == after.stamp and _month_end(after):
        yield f"untouched: {_told(before)} and {_told(after)}, with one stamp"
    if after and shows_after and (end := _month_end(after)) is not None and end <= day:
        yield f"stamped: {_told(after)}, and the stamp says that it has stood since {end}"


def _standing_text(day: date, stand: Stand) -> str:
    """Why no other posting can have come between a release and the day."""
    if day == stand.released_on:
        return ""
    if stand.next_release_due and day < stand.next_release_due:
        return f"; USDA releases no other before {stand.next_release_due}"
    return f"; USDA's current file was still that release on {stand.checked_on}"


def _doubts(
    day: date,
    value: float | None,
    before: Shown | None,
    after: Shown | None,
    stand: Stand | None,
    spans: Sequence[Span],
) -> Iterator[str]:
    """Why the day is uncertain."""
    for span in spans:
        days = (
            f"from {span.uncertain_from} to {span.uncertain_to}"
            if span.uncertain_to
            else f"from {span.uncertain_from} on"
        )
        yield f"{span.reason}: {days} {_SPAN_TEXTS[span.reason]}"
    if stand and day < stand.shown_from:
        yield f"the file of release {stand.released_on} was published later: it is evidence from {stand.shown_from} on"
    elif stand and stand.stands_until < day:
        why = (
            "when USDA's next release is due" if stand.next_release_due else "for USDA updates the commodity on any day"
        )
        yield f"release {stand.released_on} is sure to stand until {stand.stands_until} only, {why}"
    if after is None:
        yield f"the newest file is {_told(before)}; a later release may have changed it and is not landed"
    elif after.value == value:
        yield f"{_told(before)}; {_told(after)}: it may have changed and changed back in between"
    else:
        yield f"{_told(before)}; {_told(after)}: another release may have shown another value in between"


def _told(shown: Shown | None) -> str:
    if shown is None:
        return "no landed release"
    value = "" if shown.value is None else f"{shown.value:,.4f}".rstrip("0").rstrip(".")
    what = f"shows {value} with stamp {shown.stamp}" if value else "does not show it"
    return f"release {shown.released_on} {what}"


def _month_end(shown: Shown) -> date | None:
    """The last day of the stamp's month; None for month 00."""
    year, month = map(int, (shown.stamp or "0-0").split("-"))
    return date(year, month, monthrange(year, month)[1]) if month else None


def _rows(reader: "ServingReader", sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in reader.query(sql).table.to_pylist()]


def _date(day: date | None) -> str:
    return f"DATE '{day}'" if day else "NULL::DATE"

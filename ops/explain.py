"""The evidence for one fact: which landed files show it, and why it is certain, uncertain or unknown on a day.

The verdict comes from `serving.psd_asof`, so that the two never disagree; the reasons come from the landed files.
"""

import csv
import difflib
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflows.errors import SettingsError
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.sql_text import literal
from ops.config.settings import Settings
from ops.pipelines.current_file import checked_on
from ops.pipelines.remote import landing_of, remote_of

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

SYNTAX = "COMMODITY/COUNTRY/MARKET_YEAR/ATTRIBUTE[/UNIT]"
EXAMPLES = '0440000/US/2024/028, or Corn/"United States"/2024/Production'
_NEAR = 6
_SPAN_TEXTS = {
    "touched": "a posting that is not landed touched this balance sheet, and may have shown other values",
    "rekeyed": "USDA moved the commodity's market years, and no landed file shows on which day",
    "unstamped": "the stamp has month 00, which gives no evidence for the days between landed releases",
}
"""Texts for the reasons of `fct_uncertain_span`."""
_PARTS = (
    ("commodity", "dim_commodity", "commodity_code", "commodity_name"),
    ("country", "dim_country", "country_code", "country_name"),
    ("attribute", "dim_attribute", "attribute_id", "attribute_name"),
)


@dataclass(frozen=True)
class CodeAndName:
    """A code and USDA's name for it."""

    code: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.code})"


@dataclass(frozen=True)
class Fact:
    """The key of a fact."""

    commodity: CodeAndName
    country: CodeAndName
    market_year: int
    attribute: CodeAndName
    unit: CodeAndName


@dataclass(frozen=True)
class FileEntry:
    """The fact in one landed file; `value` is None if the file does not contain it."""

    released_on: date
    snapshot_key: str
    sha256: str
    member: str
    line: int | None
    """The line in the zip's CSV; the header is line 1."""
    value: float | None
    stamp: str | None
    """Calendar_Year-Month; month 00 means that USDA gave none."""
    version: int | None
    """Number of the version that it belongs to, from 1; None if the file is not served or does not contain the fact."""
    is_served: bool


@dataclass(frozen=True)
class Version:
    """A served version of the fact."""

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
class ReleaseStand:
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
    """`certain`, `uncertain`, `unknown` (before the first landed file) or `absent` (no longer shown)."""
    value: float | None
    reasons: tuple[str, ...]
    versions: tuple[Version, ...]
    shown: tuple[FileEntry, ...]
    notices: tuple[str, ...]
    generation: int
    checked_on: date | None
    """The last day on which a check found that USDA's current file is the served one; None without such a check."""


def explain(settings: Settings, text: str, day: date) -> Explanation:
    """Return the evidence for the fact that `text` names. Raises SettingsError, ServingError or LandingError."""
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
        sql = f"FROM serving.psd_asof_all(DATE '{day}'{argument}) WHERE {key}"
        stood = reader.query(sql).table.to_pylist()[0]
        stand = _release_stand(reader, fact, day, check)
        spans = tuple(_spans(reader, fact, day))
        generation = reader.query("SELECT 1").generation.number
    rows = LocalLanding(settings.landing_dir)
    readable = [each for each in snapshots if rows.rows_path(each).exists()]
    lines = _lines({each.key: rows.rows_path(each) for each in readable}, key)
    shown = tuple(_file_entry(each, lines.get(each.key), released.get(each.key), versions) for each in readable)
    notices = tuple(_notices(snapshots, readable, released))
    value, standing = stood["value"], stood["standing"]
    of_wasde = stood.get("source") == "wasde"  # a generation of an earlier version has no such column
    served = [each for each in shown if each.is_served]
    reasons = tuple(_reasons(standing, day, value, versions, served, stand, spans))
    if of_wasde:
        reasons = (f"WASDE: the report of {stood['valid_from']} prints it, rounded to 10", *reasons)
    return Explanation(fact, day, standing, value, reasons, versions, shown, notices, generation, check)


def _words(text: str) -> list[str]:
    words = [word.strip() for word in next(csv.reader([text], delimiter="/"), [])]
    if len(words) not in (4, 5) or not all(words) or not words[2].isdecimal():
        raise SettingsError(f"invalid fact: {text!r}; write {SYNTAX}, such as {EXAMPLES}")
    return words


def _fact(reader: "ServingReader", words: Sequence[str]) -> Fact:
    commodity, country, attribute = (
        _find_named(reader, part, word) for part, word in zip(_PARTS, (words[0], words[1], words[3]), strict=True)
    )
    fact = Fact(commodity, country, int(words[2]), attribute, CodeAndName("", ""))
    units = [
        CodeAndName(*row)
        for row in _rows(reader, f"SELECT DISTINCT unit_id, unit_name FROM fct_psd WHERE {_condition(fact)}")
    ]
    if not units:
        raise SettingsError(_no_fact_text(reader, fact))
    wanted = [unit for unit in units if len(words) < 5 or _matches(unit, words[4])]
    if len(wanted) != 1:
        known = ", ".join(map(str, sorted(units, key=lambda unit: unit.code)))
        raise SettingsError(f"{'/'.join(words[:4])} is served in {known}; add the unit: {SYNTAX}")
    return replace(fact, unit=wanted[0])


def _find_named(reader: "ServingReader", part: tuple[str, str, str, str], word: str) -> CodeAndName:
    what, table, code, name = part
    known = [CodeAndName(*row) for row in _rows(reader, f"SELECT {code}, {name} FROM serving.{table} ORDER BY 1")]
    found = [each for each in known if _matches(each, word)]
    if len(found) != 1:
        near = found or _near_matches(known, word)
        hint = f"near matches: {', '.join(map(str, near))}" if near else f"`materia query 'FROM {table}'` lists them"
        raise SettingsError(f"{'more than one' if found else 'no'} {what} is called {word!r}; {hint}")
    return found[0]


def _matches(named: CodeAndName, word: str) -> bool:
    return named.code == word.upper().zfill(len(named.code)) or named.name.casefold() == word.casefold()


def _near_matches(known: Iterable[CodeAndName], word: str) -> list[CodeAndName]:
    """Names that contain the word first, then names and codes with similar spelling."""
    spelled = {text.casefold(): each for each in known for text in (each.name, each.code)}
    wanted = word.casefold()
    found = [each for text, each in spelled.items() if wanted in text]
    found += [spelled[text] for text in difflib.get_close_matches(wanted, spelled, n=_NEAR)]
    return list(dict.fromkeys(found))[:_NEAR]


def _no_fact_text(reader: "ServingReader", fact: Fact) -> str:
    """An error text that names the part of the key that is served."""
    where = f"commodity_code = {literal(fact.commodity.code)} AND country_code = {literal(fact.country.code)}"
    same = f"{where} AND attribute_id = {literal(fact.attribute.code)}"
    first, last = _rows(reader, f"SELECT MIN(market_year), MAX(market_year) FROM fct_psd WHERE {same}")[0]
    if first is not None:
        near = f"it is served for market years {first} to {last}"
    else:
        names = "FROM fct_psd"
        known = [
            CodeAndName(*row)
            for row in _rows(reader, f"SELECT DISTINCT attribute_id, attribute_name {names} WHERE {where}")
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


def _release_stand(reader: "ServingReader", fact: Fact, day: date, check: date | None) -> ReleaseStand | None:
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
    return next((ReleaseStand(*row) for row in _rows(reader, sql)), None)


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
    """Line number in the CSV, value and stamp, per snapshot. The stored rows have the order of the CSV's lines."""
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


def _file_entry(
    snapshot: Snapshot, line: tuple[int, float, str] | None, served_on: date | None, versions: Sequence[Version]
) -> FileEntry:
    number, value, stamp = line or (None, None, None)
    version = next(
        (
            each.number
            for each in versions
            if served_on is not None and each.value == value and each.valid_from <= served_on <= each.last_seen_on
        ),
        None,
    )
    return FileEntry(
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
        yield f"the served generation contains {key}, which is not landed here: its evidence is missing"


def _reasons(
    standing: str,
    day: date,
    value: float | None,
    versions: Sequence[Version],
    shown: Sequence[FileEntry],
    stand: ReleaseStand | None,
    spans: Sequence[Span],
) -> Iterator[str]:
    """Reasons for the verdict, from the files around the day, the release calendar and the uncertain spans."""
    before = max((each for each in shown if each.released_on <= day), key=lambda each: each.released_on, default=None)
    after = min((each for each in shown if each.released_on > day), key=lambda each: each.released_on, default=None)
    if standing == "unknown":
        yield f"no landed file shows the value before {versions[0].valid_from}"
        yield f"before {day}: {_shown_text(before)}; after: {_shown_text(after)}"
    elif standing == "absent" and day < versions[0].valid_from:
        yield f"{_shown_text(before)}, and no other release can have come by {day}"
    elif standing == "absent":
        yield f"the release of {versions[-1].last_seen_on} is the last that shows it; since then: {_shown_text(before)}"
    elif standing == "certain":
        evidence = tuple(_evidence(day, value, before, after, stand))
        yield from evidence or (f"the evidence is not readable here: {_shown_text(before)}; {_shown_text(after)}",)
    else:
        yield from _doubts(day, value, before, after, stand, spans)


def _evidence(
    day: date, value: float | None, before: FileEntry | None, after: FileEntry | None, stand: ReleaseStand | None
) -> Iterator[str]:
    """The evidence that covers the day: `shown`, `untouched`, `stamped`."""
    shows_before, shows_after = (each is not None and each.value == value for each in (before, after))
    is_its_file = stand and before and before.released_on == stand.released_on
    if stand and is_its_file and shows_before and stand.shown_from <= day <= stand.stands_until:
        yield f"shown: {_shown_text(before)}{_standing_text(day, stand)}"
    if before and after and shows_before and shows_after and before.stamp == after.stamp and _month_end(after):
        yield f"untouched: {_shown_text(before)} and {_shown_text(after)}, with the same stamp"
    if after and shows_after and (end := _month_end(after)) is not None and end <= day:
        yield f"stamped: {_shown_text(after)}, and the stamp shows that it is unchanged since {end}"


def _standing_text(day: date, stand: ReleaseStand) -> str:
    """Why USDA cannot have posted another file between the release and the day."""
    if day == stand.released_on:
        return ""
    if stand.next_release_due and day < stand.next_release_due:
        return f"; USDA releases no other before {stand.next_release_due}"
    return f"; USDA's current file was still that release on {stand.checked_on}"


def _doubts(
    day: date,
    value: float | None,
    before: FileEntry | None,
    after: FileEntry | None,
    stand: ReleaseStand | None,
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
        yield f"the file of release {stand.released_on} was posted late: it is evidence only from {stand.shown_from} on"
    elif stand and stand.stands_until < day:
        why = (
            "USDA's next release is due then" if stand.next_release_due else "USDA may update the commodity on any day"
        )
        yield f"release {stand.released_on} is certainly current only until {stand.stands_until}: {why}"
    if after is None:
        yield f"the newest file is {_shown_text(before)}; a later release may have changed it and is not landed"
    elif after.value == value:
        yield f"{_shown_text(before)}; {_shown_text(after)}: it may have changed and changed back in between"
    else:
        yield f"{_shown_text(before)}; {_shown_text(after)}: another release may have shown another value in between"


def _shown_text(shown: FileEntry | None) -> str:
    if shown is None:
        return "no landed release"
    value = "" if shown.value is None else f"{shown.value:,.4f}".rstrip("0").rstrip(".")
    what = f"shows {value} with stamp {shown.stamp}" if value else "does not show it"
    return f"release {shown.released_on} {what}"


def _month_end(shown: FileEntry) -> date | None:
    """The last day of the stamp's month; None for month 00."""
    year, month = map(int, (shown.stamp or "0-0").split("-"))
    return date(year, month, monthrange(year, month)[1]) if month else None


def _rows(reader: "ServingReader", sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in reader.query(sql).table.to_pylist()]


def _date(day: date | None) -> str:
    return f"DATE '{day}'" if day else "NULL::DATE"

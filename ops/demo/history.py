"""The specification of a generated history, and the books of its first release."""

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any, Self

from dataflows.errors import SettingsError
from dataflows.source.release import Month
from dataflows.source.release_dates import usda_release_days
from ops.demo.psd_codes import DATASETS, Commodity, commodities_of
from ops.demo.sheet_forms import GROUPS

if TYPE_CHECKING:
    from ops.demo.book import Book

_FIRST_MONTH = Month(2025, 1)
FEWEST_ROWS = 100
FEWEST_YEARS = 8
FEWEST_COUNTRIES = 5


@dataclass(frozen=True)
class HistorySpec:
    """What to generate; the same spec gives the same releases on every machine.

    `rows` is the target of the first release; later ones grow with each May's new market year. Releases are counted
    from 0, the baseline. In release `rekey_in` the whole history of `rekey_commodity` (or else of the smallest
    commodity) moves by one market year. Every `new_country_every`-th release adds a country, every `vanish_every`-th
    one removes a sheet; 0 means never.
    """

    dataset: str = "psd_alldata"
    seed: int = 1
    rows: int = 20_000
    releases: int = 6
    first_month: Month = _FIRST_MONTH
    rekey_in: int | None = None
    rekey_commodity: str = "0711100"
    new_country_every: int = 3
    vanish_every: int = 4
    compress_level: int = 6

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise SettingsError(f"no generator for {self.dataset!r}; choose one of {', '.join(DATASETS)}")
        if self.rows < FEWEST_ROWS:
            raise SettingsError(f"rows={self.rows}: a history has at least {FEWEST_ROWS}")
        if self.releases < 1:
            raise SettingsError(f"releases={self.releases}: a history has at least 1")
        if self.rekey_in is not None and not 1 <= self.rekey_in < self.releases:
            raise SettingsError(f"rekey_in={self.rekey_in} is none of the releases 1 to {self.releases - 1}")
        if not Month(2007, 1) <= self.first_month <= Month(2100, 1):
            raise SettingsError(f"first_month={self.first_month} lies outside 2007-01 to 2100-01")

    @classmethod
    def ending(cls, month: Month, releases: int = 6, **rest: Any) -> Self:
        """The history whose last release is of `month`; `rest` are the other fields."""
        return cls(first_month=month.back(releases - 1), releases=releases, **rest)

    @property
    def months(self) -> tuple[Month, ...]:
        return tuple(self.first_month.through(self.first_month.back(1 - self.releases)))


def published_at(month: Month, seed: int = 1) -> datetime:
    """USDA's release day of the month, at 16:00 UTC (about noon in Washington).

    Where its calendar lists none, a day like the others: the 9th to the 12th and no weekend.
    """
    if listed := usda_release_days(month):
        return datetime.combine(listed[0], time(16), UTC)
    start = (seed + month.year * 12 + month.month) * 7 % 4
    days = (datetime(month.year, month.month, 9 + (start + n) % 4, 16, tzinfo=UTC) for n in range(4))
    return next(day for day in days if day.weekday() < 5)


def open_books(spec: HistorySpec) -> list["Book"]:
    """The baseline's books, in the order of USDA's file; raises SettingsError if `rows` is too large."""
    from ops.demo.book import FIRST_YEAR, max_sheets, open_book

    newest = spec.first_month.year - (spec.first_month.month < 5)
    commodities, years = _breadth_and_depth(spec, newest - FIRST_YEAR + 1)
    first = newest - years + 1
    most = max_sheets(first, newest)
    # The widest commodities come last, because they have room for the overflow of the narrow ones.
    commodities = sorted(commodities, key=_width)
    books, rows_left, width_left = [], spec.rows, sum(map(_width, commodities))
    for commodity in commodities:
        columns = len(GROUPS[commodity.group].attributes)
        sheets = min(round(rows_left * _width(commodity) / width_left / columns), most)
        width_left -= _width(commodity)
        rows_left -= sheets * columns
        last = newest + 2 + spec.releases // 12 + (spec.rekey_in is not None)
        books.append(open_book(commodity, spec.seed, sheets, first, newest, last, spec.first_month))
    if rows_left > spec.rows // 50 and rows_left > 20:
        raise SettingsError(
            f"{spec.dataset} has believable sheets for {spec.rows - rows_left} rows, not {spec.rows}; "
            "ask for fewer or for psd_alldata"
        )
    return sorted(books, key=lambda book: book.commodity.name.lower())


def _width(commodity: Commodity) -> int:
    return commodity.countries * len(GROUPS[commodity.group].attributes)


def _breadth_and_depth(spec: HistorySpec, most_years: int) -> tuple[list[Commodity], int]:
    """The commodities and the number of market years of a history of this size.

    A small history has few commodities with several countries each, so that sheets have neighbours.
    """
    commodities = list(commodities_of(spec.dataset))
    full = sum(map(_width, commodities)) * most_years
    years = min(max(4 * most_years * spec.rows // full, FEWEST_YEARS), most_years)
    kept: list[Commodity] = []
    rows_left = spec.rows
    for commodity in commodities:
        rows_left -= FEWEST_COUNTRIES * years * len(GROUPS[commodity.group].attributes)
        if rows_left < 0 and kept:
            break
        kept.append(commodity)
    return kept, years

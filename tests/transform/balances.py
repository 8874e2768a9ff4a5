"""Groups of countries and metrics, computed the slow way: one balance sheet at a time, from the lines of one file."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from statistics import mean

Line = tuple[str, str, int, str, Decimal]
"""commodity_code, country_code, market_year, attribute_id, value"""
Sheet = Mapping[str, Decimal]
"""Values by attribute_id."""
Area = str
"""A country's code, or a group's."""

SOUTHEAST_ASIA = ("ID", "MY", "RP", "TH", "VM")
BEGINNING, PRODUCTION, IMPORTS, EXPORTS, ENDING = "020", "028", "057", "088", "176"
RATES = ("181", "182", "183", "184", "195")


@dataclass(frozen=True)
class Metrics:
    """A row of `fct_metric`, as far as it is numbers."""

    stocks_to_use: float | None
    production_change_pct: float | None
    five_year_average_ratio: float | None
    production_percentile: float | None
    import_dependence: float | None
    self_sufficiency: float | None
    export_share: float | None
    crop_yield: float | None


def sheets_of(lines: Iterable[Line]) -> dict[tuple[str, str, int], dict[str, Decimal]]:
    """Balance sheets by commodity, country and market year."""
    found: dict[tuple[str, str, int], dict[str, Decimal]] = defaultdict(dict)
    for commodity, country, year, attribute, value in lines:
        found[commodity, country, year][attribute] = value
    return found


def group_sheet(sheets: Mapping[tuple[str, str, int], Sheet], commodity: str, year: int, group: str) -> Sheet | None:
    """The sums of a group; None where a member has no sheet."""
    members = [country for of, country, in_year in sheets if (of, in_year) == (commodity, year)]
    if group == "WORLD_LESS_CHINA":
        members = [country for country in members if country != "CH"]
    elif group == "SOUTHEAST_ASIA":
        if not set(SOUTHEAST_ASIA) <= set(members):
            return None
        members = list(SOUTHEAST_ASIA)
    elif group == "EU27_UK":
        wanted = ["E4"] if year < 2016 else ["E4", "UK"]
        if year < 1999 or not set(wanted) <= set(members):
            return None
        members = wanted
    total: dict[str, Decimal] = defaultdict(Decimal)
    for country in members:
        for attribute, value in sheets[commodity, country, year].items():
            if attribute not in RATES:
                total[attribute] += value
    return total


def implied_use(group: Sheet, world: Sheet, is_world: bool) -> Decimal | None:
    """The use of a group by its stocks and trade; the world's imbalance of trade counts as use."""
    if not {BEGINNING, PRODUCTION, ENDING} <= group.keys():
        return None
    used = group[BEGINNING] + group[PRODUCTION] - group[ENDING] + _of(group, IMPORTS) - _of(group, EXPORTS)
    return used + (_of(world, EXPORTS) - _of(world, IMPORTS) if is_world else 0)


def metrics(sheets: Mapping[int, Sheet], uses: Callable[[int], Decimal | None], is_group: bool, year: int) -> Metrics:
    """The metrics of one market year of an area, whose sheets are given by market year."""
    sheet, use = sheets[year], uses(year)
    produced = {each: shown[PRODUCTION] for each, shown in sheets.items() if PRODUCTION in shown}
    now, exports = produced.get(year), sheet.get(EXPORTS)
    before = [produced[each] for each in range(year - 5, year) if each in produced]
    ranked = [value for each, value in produced.items() if each >= 1990]
    all_use = use if is_group or use is None else None if exports is None else use + exports
    area = sheet.get("004")
    return Metrics(
        stocks_to_use=_ratio(sheet.get(ENDING), all_use),
        production_change_pct=None if (change := _ratio(now, produced.get(year - 1))) is None else 100 * (change - 1),
        five_year_average_ratio=_ratio(now, mean(before)) if len(before) == 5 else None,
        production_percentile=None
        if year < 1990 or now is None
        else 100 * sum(each < now for each in ranked) / max(len(ranked) - 1, 1),
        import_dependence=_ratio(sheet.get(IMPORTS), use),
        self_sufficiency=_ratio(now, use),
        export_share=_ratio(exports, now),
        crop_yield=_ratio(sheet.get("054") or now, area) if is_group else _float(sheet.get("184")),
    )


def _of(sheet: Sheet, attribute: str) -> Decimal:
    return sheet.get(attribute, Decimal(0))


def _ratio(value: Decimal | None, divisor: Decimal | None) -> float | None:
    return float(value) / float(divisor) if value is not None and divisor else None


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)

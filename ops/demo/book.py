"""A book: all balance sheets of one commodity, as arrays over country and market year."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from dataflows.source.release import Month
from ops.demo.noise import noise
from ops.demo.psd_codes import COUNTRIES, Commodity, Country
from ops.demo.sheet_forms import GROUPS, Attribute

FIRST_YEAR = 1960
_FIRST_STAMP = Month(2006, 7)
"""The earliest stamp in USDA's files, apart from month 00."""
_PPM = 1_000_000


@dataclass
class Book:
    """Balance sheets of one commodity; every array has the shape (countries, market years).

    `stamp` is Calendar_Year * 100 + Month. Sheets that are not `present` are prepared for later releases: future market
    years, and a country that USDA adds later.
    """

    commodity: Commodity
    countries: tuple[Country, ...]
    first_year: int
    newest_year: int
    present: np.ndarray
    stamp: np.ndarray
    quantities: dict[str, np.ndarray]

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return GROUPS[self.commodity.group].attributes

    @property
    def years(self) -> np.ndarray:
        return self.first_year + np.arange(self.present.shape[1])

    @property
    def row_count(self) -> int:
        return int(self.present.sum()) * len(self.attributes)

    def copy(self) -> Self:
        quantities = {name: array.copy() for name, array in self.quantities.items()}
        return replace(self, present=self.present.copy(), stamp=self.stamp.copy(), quantities=quantities)

    def values(self, sheets: np.ndarray) -> np.ndarray:
        """The values of the chosen sheets, shape (sheets, attributes); yields and rates in hundredths."""
        chosen = {name: array[sheets] for name, array in self.quantities.items()}
        chosen["supply"] = chosen["beginning"] + chosen["production"] + chosen["imports"]
        columns = [_column(attribute, chosen) for attribute in self.attributes]
        return np.stack(columns, axis=1)


def _column(attribute: Attribute, chosen: dict[str, np.ndarray]) -> np.ndarray:
    if attribute.quantity == "rate":
        return np.full_like(chosen["production"], attribute.high)
    if attribute.quantity == "yield":
        return chosen["production"] * attribute.high // np.maximum(chosen["area"], 1)
    total = chosen[attribute.quantity]
    return total * attribute.high // 1000 - total * attribute.low // 1000


def open_book(
    commodity: Commodity,
    seed: int,
    sheets: int,
    first_year: int,
    newest_year: int,
    last_year: int,
    month: Month,
) -> Book:
    """The book of the first release (of `month`), with about `sheets` balance sheets.

    The largest countries come first; the last one has only its recent years. One more country is added by a later
    release. `last_year` is the last market year that any release can reach.
    """
    years = np.arange(first_year, last_year + 1)
    countries, counts = _choose(commodity, sheets, first_year, newest_year)
    first = np.array(
        [max(c.first_year, min(c.last_year, newest_year) - n + 1) for c, n in zip(countries, counts, strict=True)]
    )
    last = np.array([min(c.last_year, newest_year) for c in countries])
    order = sorted(range(len(countries)), key=lambda n: countries[n].name.lower())
    present = ((years >= first[:, None]) & (years <= last[:, None]))[order]
    ordered = tuple(countries[n] for n in order)
    return Book(
        commodity,
        ordered,
        first_year,
        newest_year,
        present,
        _first_stamps(commodity, seed, ordered, years, month),
        _first_quantities(commodity, seed, ordered, years),
    )


def _choose(commodity: Commodity, sheets: int, first: int, newest: int) -> tuple[list[Country], list[int]]:
    """Countries by weight with their numbers of sheets; the last one has none."""
    production, consumption = _world_shares(commodity, COUNTRIES)
    weight = dict(zip(COUNTRIES, (production + consumption).tolist(), strict=True))
    countries, counts = [], []
    for country in sorted(COUNTRIES, key=lambda country: (-weight[country], country.code)):
        available = min(country.last_year, newest) - max(country.first_year, first) + 1
        if available <= 0 or (sheets == 0 and country.last_year < newest):
            continue
        counts.append(min(available, sheets))
        countries.append(country)
        if sheets == 0:
            break
        sheets -= counts[-1]
    return countries, counts


def max_sheets(first_year: int, newest_year: int) -> int:
    """The maximum number of sheets of a book."""
    spans = (min(c.last_year, newest_year) - max(c.first_year, first_year) + 1 for c in COUNTRIES)
    return sum(span for span in spans if span > 0)


def _world_shares(commodity: Commodity, countries: tuple[Country, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the world's production and consumption per country, in millionths."""
    code = np.array([int.from_bytes(country.code.encode()) for country in countries])
    population = np.array([country.population for country in countries])
    alive = sum(country.population for country in COUNTRIES if country.last_year == 9999)
    listed = np.array(
        [sum(commodity.shares.get(name, 0) for name in (country.code, *country.heirs)) for country in countries]
    )
    # A third of the others produce nothing; the rest share the remainder of the leading producers.
    inclination = np.maximum(noise(90, 0, "tail", int(commodity.code), code) - 30, 0)
    left = (100 - sum(commodity.shares.values())) * _PPM // 100
    production = np.where(listed > 0, listed * _PPM // 100, left * population * inclination // (alive * 30))
    traded = GROUPS[commodity.group].traded_percent
    consumption = (production * (100 - traded) + population * _PPM // alive * traded) // 100
    return production, consumption


def _first_quantities(
    commodity: Commodity, seed: int, countries: tuple[Country, ...], years: np.ndarray
) -> dict[str, np.ndarray]:
    """Balanced sheets: supply = distribution, and beginning stocks equal the ending stocks of the year before."""
    production_share, consumption_share = (share[:, None] for share in _world_shares(commodity, countries))
    code = np.array([[int.from_bytes(country.code.encode())] for country in countries])

    def vary(values: np.ndarray, purpose: str, lowest: int, highest: int, over: np.ndarray) -> np.ndarray:
        permille = lowest + noise(highest - lowest + 1, seed, purpose, int(commodity.code), code, over)
        return values * permille // 1000

    # One more year at the start, for the first year's beginning stocks.
    span = np.arange(years[0] - 1, years[-1] + 1)
    grown = np.minimum(350 + (span - FIRST_YEAR) * 10, 1100)[None, :]
    world = commodity.world_production * grown // 1000
    production = vary(world * production_share // _PPM, "harvest", 920, 1080, span)
    consumption = vary(world * consumption_share // _PPM, "demand", 960, 1040, span)
    keep = GROUPS[commodity.group].stocks_permille
    ending = vary(consumption * keep // 1000, "stocks", 600, 1400, span)
    beginning, ending = ending[:, :-1], ending[:, 1:]
    production, consumption = production[:, 1:], consumption[:, 1:]
    surplus = beginning + production - consumption - ending
    reexported = vary(np.abs(surplus), "reexport", 0, 40, years)
    yields = vary(commodity.yield_hundredths * grown[:, 1:] // 1000, "farming", 700, 1300, np.array(0))
    yields = vary(yields, "weather", 970, 1030, years)
    area = np.where(production > 0, np.maximum(production * 100 // np.maximum(yields, 1), 1), 0)
    return {
        "area": area,
        "beginning": beginning.copy(),
        "production": production.copy(),
        "imports": np.maximum(-surplus, 0) + reexported,
        "exports": np.maximum(surplus, 0) + reexported,
        "consumption": consumption.copy(),
        "ending": ending.copy(),
    }


def _first_stamps(
    commodity: Commodity, seed: int, countries: tuple[Country, ...], years: np.ndarray, month: Month
) -> np.ndarray:
    """The stamp of each sheet, for most soon after the April that follows its market year."""
    code = np.array([[int.from_bytes(country.code.encode())] for country in countries])
    newest = month.year * 12 + month.month - 1
    earliest = np.maximum((years + 1) * 12 + 3, _FIRST_STAMP.year * 12 + _FIRST_STAMP.month - 1)
    chance = np.maximum(noise(1000, seed, "stamp", int(commodity.code), code, years) - 350, 0)
    months = np.minimum(earliest, newest) + np.maximum(newest - earliest, 0) * chance**3 // 650**3
    dated = months // 12 * 100 + months % 12 + 1
    return np.where(years <= commodity.undated_through, (years + 2) * 100, dated)

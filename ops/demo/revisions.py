"""The changes of one month to a book: revisions, new stamps, new and removed sheets, a re-keying."""

from collections.abc import Callable

import numpy as np

from dataflows.source.release import Month
from ops.demo.book import Book
from ops.demo.noise import noise

TOUCHED_PERMILLE = (600, 350, 80, 30)
"""The probability that a sheet is touched, by the age of its market year; `TOUCHED_OLD_PERMILLE` for older ones."""
TOUCHED_OLD_PERMILLE = 4
REVISED_PERCENT = 45
"""The share of touched sheets whose values change; the others only get a new stamp."""
NEW_YEAR_MONTH = 5
"""The WASDE of May is the first with the new market year."""


def revise(book: Book, seed: int, month: Month) -> None:
    """Touch sheets, mostly of recent market years; revised sheets stay balanced."""
    draw = _drawer(book, seed, month)
    age = np.clip(book.newest_year - book.years, 0, len(TOUCHED_PERMILLE))
    touched = draw(1000, "touch") < np.array([*TOUCHED_PERMILLE, TOUCHED_OLD_PERMILLE])[age]
    revised = touched & (draw(100, "revise") < REVISED_PERCENT) & book.present
    kind = draw(3, "kind")
    size = 5 + draw(40, "size")
    rising = draw(2, "sign") == 1
    moved = _move_stocks(book, revised & (kind == 0), size, rising)
    _move_harvest(book, revised & (kind == 1), size, rising)
    _move_trade(book, revised & (kind == 2), size, rising)
    _stamp(book, touched | moved, month)


def open_market_year(book: Book, month: Month) -> None:
    """Show the next market year of every country that has the newest one."""
    newest = book.newest_year - book.first_year
    book.present[:, newest + 1] = book.present[:, newest]
    book.newest_year += 1
    _stamp(book, book.present & (book.years == book.newest_year), month)


def take_up_country(book: Book, month: Month) -> bool:
    """Add the newest sheet of the prepared country; False if there is none."""
    waiting = np.flatnonzero(~book.present.any(axis=1))
    if not len(waiting):
        return False
    newest = book.newest_year - book.first_year
    book.present[waiting[0], newest] = True
    book.stamp[waiting[0], newest] = _number(month)
    return True


def drop_sheet(book: Book, seed: int, month: Month) -> None:
    """Remove one sheet, not of the recent market years."""
    old = np.argwhere(book.present & (book.years < book.newest_year - 2))
    if len(old):
        row, column = old[noise(len(old), seed, "vanish", int(book.commodity.code), _number(month))]
        book.present[row, column] = False


def rekey(book: Book, month: Month) -> None:
    """Move every sheet to the next market year with unchanged values and this month's stamp."""
    for array in (book.present, book.stamp, *book.quantities.values()):
        array[:, 1:] = array[:, :-1].copy()
    book.present[:, 0] = False
    book.newest_year += 1
    _stamp(book, book.present, month)


def _move_harvest(book: Book, sheets: np.ndarray, permille: np.ndarray, rising: np.ndarray) -> None:
    """Change production (or imports, if nothing is produced) and consumption by the same amount."""
    source, change = _source(book, sheets, permille, rising)
    consumption = book.quantities["consumption"]
    change = np.maximum(change, -consumption)
    _add(book, source, change)
    consumption += change


def _move_stocks(book: Book, sheets: np.ndarray, permille: np.ndarray, rising: np.ndarray) -> np.ndarray:
    """Change production, ending stocks and the next year's beginning stocks by the same amount; returns the mask."""
    sheets = sheets & (book.quantities["ending"] > 0)
    sheets[:, -1] = False
    source, change = _source(book, sheets, permille, rising)
    beginning, consumption = book.quantities["beginning"], book.quantities["consumption"]
    next_consumption = np.roll(consumption, -1, axis=1)
    change = np.maximum(change, -np.minimum(book.quantities["ending"], next_consumption))
    _add(book, source, change)
    book.quantities["ending"] += change
    beginning[:, 1:] += change[:, :-1]
    consumption[:, 1:] += change[:, :-1]
    moved = change != 0
    moved[:, 1:] |= moved[:, :-1].copy()
    return moved


def _move_trade(book: Book, sheets: np.ndarray, permille: np.ndarray, rising: np.ndarray) -> None:
    """Increase exports and decrease consumption by the same amount, or vice versa."""
    exports, consumption = book.quantities["exports"], book.quantities["consumption"]
    size = np.maximum(exports * permille // 1000, 1)
    change = np.where(rising, np.minimum(size, consumption), -np.minimum(size, exports)) * sheets
    exports += change
    consumption -= change


def _source(book: Book, sheets: np.ndarray, permille: np.ndarray, rising: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The source of the change (True: production, else imports) and its signed size."""
    production, imports = book.quantities["production"], book.quantities["imports"]
    grown = production > 0
    available = np.where(grown, production, imports)
    size = np.maximum(available * permille // 1000, 1)
    return grown, np.where(rising, size, -np.minimum(size, np.maximum(available - 1, 0))) * sheets


def _add(book: Book, to_production: np.ndarray, change: np.ndarray) -> None:
    book.quantities["production"] += change * to_production
    book.quantities["imports"] += change * ~to_production


def _stamp(book: Book, sheets: np.ndarray, month: Month) -> None:
    book.stamp[sheets] = _number(month)


def _number(month: Month) -> int:
    return month.year * 100 + month.month


def _drawer(book: Book, seed: int, month: Month) -> Callable[[int, str], np.ndarray]:
    code = np.array([[int.from_bytes(country.code.encode())] for country in book.countries])

    def draw(below: int, purpose: str) -> np.ndarray:
        return noise(below, seed, purpose, int(book.commodity.code), _number(month), code, book.years)

    return draw

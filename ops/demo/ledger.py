"""The ledger: what truly changed between two consecutive generated releases, for tests to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ops.demo.book import Book

KINDS = ("new", "revised", "removed", "restated", "restamped")

Fact = tuple[str, str, int, str, str]
"""commodity_code, country_code, market_year, attribute_id, unit_id"""


@dataclass(frozen=True)
class Ledger:
    """Facts changed against the release before; of the baseline, none.

    In a re-keyed commodity every fact that appears, disappears or shows another value is `restated`, and none
    of the other three. `restamped` facts have a new stamp and the old value. `facts` holds the sets
    themselves, per kind, where a history is small.
    """

    by_commodity: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    facts: Mapping[str, frozenset[Fact]] | None = field(default=None, repr=False)

    def count(self, kind: str) -> int:
        return sum(counts[kind] for counts in self.by_commodity.values())


class LedgerWriter:
    """Collects one release's ledger, book by book."""

    def __init__(self, with_facts: bool) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self._facts: dict[str, set[Fact]] | None = {kind: set() for kind in KINDS} if with_facts else None

    def compare(self, before: Book, after: Book, rekeyed: bool) -> None:
        counts = dict.fromkeys(KINDS, 0)
        for kind, changed in _changes(before, after, rekeyed):
            counts[kind] = int(changed.sum())
            if self._facts is not None:
                self._facts[kind].update(_facts(after, changed))
        self._counts[after.commodity.code] = counts

    def close(self) -> Ledger:
        if self._facts is None:
            return Ledger(self._counts, None)
        return Ledger(self._counts, {kind: frozenset(found) for kind, found in self._facts.items()})


def changed_sheets(before: Book, after: Book) -> np.ndarray:
    """The sheets that appear, vanish or carry another stamp."""
    return (before.present != after.present) | (after.present & (before.stamp != after.stamp))


def _changes(before: Book, after: Book, rekeyed: bool) -> list[tuple[str, np.ndarray]]:
    """Kinds and the facts of each, as masks of the shape (countries, market years, attributes)."""
    facts = np.ones(len(after.attributes), dtype=bool)
    both = before.present & after.present & (before.stamp != after.stamp)
    differs = np.zeros((*both.shape, len(facts)), dtype=bool)
    differs[both] = before.values(both) != after.values(both)
    new = (after.present & ~before.present)[:, :, None] & facts
    removed = (before.present & ~after.present)[:, :, None] & facts
    restamped = ("restamped", both[:, :, None] & ~differs)
    if rekeyed:
        return [("restated", new | removed | differs), restamped]
    return [("new", new), ("removed", removed), ("revised", differs), restamped]


def _facts(book: Book, changed: np.ndarray) -> list[Fact]:
    return [
        (
            book.commodity.code,
            book.countries[country].code,
            book.first_year + year,
            book.attributes[column].id,
            book.attributes[column].unit_id,
        )
        for country, year, column in np.argwhere(changed).tolist()
    ]

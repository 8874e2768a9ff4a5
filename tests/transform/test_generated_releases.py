"""What tests/transform/test_real_grains.py shows on USDA's own files, shown on generated ones as well.

Their versions, revisions, as-of answers and orders of landing are shown in tests/transform/test_history.py.
"""

from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from ops.demo.generator import GeneratedRelease
from tests.support.once import build_once
from tests.support.workshop import Workshop
from tests.transform.reference import Fact, read

Releases = tuple[GeneratedRelease, ...]

ADDITIVE = ("020", "028", "057", "088", "176")
"""Beginning stocks, production, imports, exports, ending stocks: attributes that add up over countries."""
RATES = ("182", "184")
"""Milling rate and yield, which do not."""


@pytest.fixture(scope="module")
def newest_alone(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A lakehouse that has seen the newest release and no other."""

    def build(folder: Path) -> None:
        workshop = Workshop(folder / "data")
        workshop.land(releases[-1])
        workshop.transform()

    return Workshop(build_once(tmp_path_factory, "newest-alone", build) / "data")


def facts(release: GeneratedRelease) -> dict[Fact, Decimal]:
    return {fact: shown.value for fact, shown in read(release).facts.items()}


def test_the_world_is_the_exact_sum_of_its_countries(served: Workshop, releases: Releases) -> None:
    summed: dict[tuple[str, int, str], Decimal] = defaultdict(Decimal)
    for (commodity, _, market_year, attribute, _), value in facts(releases[-1]).items():
        if attribute in ADDITIVE:
            summed[commodity, market_year, attribute] += value
    world = served.query(
        "SELECT commodity_code, market_year, attribute_id, value::DECIMAL(18, 4) FROM serving.agg_world_balance"
        f" WHERE attribute_id IN {ADDITIVE}"
    )
    assert {tuple(key): value for *key, value in world} == summed
    assert len(summed) > 100


def test_a_world_rate_lies_among_its_countries(served: Workshop, releases: Releases) -> None:
    rates: dict[tuple[str, int, str], list[Decimal]] = defaultdict(list)
    for (commodity, _, market_year, attribute, _), value in facts(releases[-1]).items():
        if attribute in RATES and value > 0:
            rates[commodity, market_year, attribute].append(value)
    world = served.query(
        "SELECT commodity_code, market_year, attribute_id, value::DECIMAL(18, 4) FROM serving.agg_world_balance"
        f" WHERE attribute_id IN {RATES} AND value > 0"
    )
    outside = [
        (*key, value)
        for *key, value in world
        if not min(rates[tuple(key)]) * Decimal("0.99") <= value <= max(rates[tuple(key)]) * Decimal("1.01")
    ]
    assert outside == []
    # A milling rate belongs to rice, which a history this small does not hold.
    assert {attribute for *_, attribute, _ in world} == {"184"}


def test_the_newest_release_alone_contradicts_no_earlier_one(newest_alone: Workshop, releases: Releases) -> None:
    newest = facts(releases[-1])
    for release in releases[:-1]:
        day = release.published_at.date()
        answers = newest_alone.query(
            "SELECT commodity_code, country_code, market_year, attribute_id, unit_id, value::DECIMAL(18, 4)"
            " FROM serving.psd_asof(?) WHERE certain",
            day,
        )
        then = facts(release)
        wrong = [fact for *fact, value in answers if then.get(tuple(fact)) != value]
        assert wrong == []
        coverage = "SELECT SUM(certain), SUM(certain + uncertain + unknown) FROM serving.psd_asof_coverage(?)"
        assert newest_alone.query(coverage, day) == [(len(answers), len(newest))]
        untouched = sum(newest.get(fact) == value for fact, value in then.items())
        assert 0 < len(answers) <= untouched

"""Whichever of USDA's own files are landed: no certain answer contradicts a file, landed or not."""

from collections.abc import Mapping
from itertools import combinations

import pytest

from dataflows.source.release import Month
from tests.support.plain_models import PlainSnapshot
from tests.support.real_files import GRAINS_MONTHS
from tests.transform.test_real_grains import LANDED, Computed, assert_never_contradicted, computed, unpacked

pytestmark = pytest.mark.long

__all__ = ["computed", "unpacked"]  # fixtures

SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(GRAINS_MONTHS, size) if subset not in LANDED]
"""Those that `tests/transform/test_real_grains.py` leaves out."""


@pytest.mark.parametrize("landed", SUBSETS, ids=lambda months: "+".join(map(str, months)))
def test_no_certain_answer_contradicts_a_file_landed_or_not(
    landed: tuple[Month, ...], unpacked: Mapping[Month, PlainSnapshot], computed: Computed
) -> None:
    assert_never_contradicted(computed(landed), unpacked)

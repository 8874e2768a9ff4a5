"""Which steps to strike at: every kind of step once before any kind twice, then by a seeded chance."""

import random
import re
from collections.abc import Sequence

from tests.support.stage import Step

_NAMES = re.compile(r"\d+|sqlite-\w{8}\b|[0-9a-f_]{12,}")


def places(steps: Sequence[Step | None], wanted: int, seed: int) -> list[int]:
    """At most `wanted` step numbers, from 1, ascending.

    A kind is a call on a file, whatever numbers are in its name; what data depends on comes before the journal and
    the logs. None stands for a step that is not to be struck.
    """
    chance = random.Random(seed)
    allowed = {place: step for place, step in enumerate(steps, 1) if step is not None}
    by_kind: dict[str, list[int]] = {}
    for place, step in allowed.items():
        by_kind.setdefault(_kind(step), []).append(place)
    chosen = [chance.choice(those) for kind, those in by_kind.items() if not kind.startswith("journal")]
    chance.shuffle(chosen)
    journal = [chance.choice(those) for kind, those in by_kind.items() if kind.startswith("journal")]
    chance.shuffle(journal)
    rest = sorted({*allowed} - {*chosen, *journal})
    chance.shuffle(rest)
    return sorted([*chosen, *journal, *rest][:wanted])


def _kind(step: Step) -> str:
    description = f"{step.name} {_NAMES.sub('N', step.target)} {step.by_child}"
    return f"journal {description}" if re.match(r"\.?runs\.sqlite|logs|writer\.lock", step.target) else description

"""Damage as problems: a line for each way of repairing, and one for a scrub that could not read everything."""

from collections.abc import Iterator, Sequence

from ops.config.settings import Settings
from ops.health.problem import Problem, Severity
from ops.integrity.damage import known_damage
from ops.integrity.record import Damage, Kind, read_record

RUN, RESTORE = "materia run-all", "materia landing repair"
_NAMED = 3
"""Damaged files that a line names; the others are counted."""


def damage_problems(settings: Settings) -> Iterator[Problem]:
    """What is damaged, and why the last scrub could not tell, if it could not."""
    damage = known_damage(settings)
    yield from _of(damage, "serving-damaged", f"{RUN}, which publishes it again", Kind.SERVED)
    yield from _of(damage, "generation-damaged", f"{RUN}, which sets it aside", Kind.GENERATION)
    rebuilt = f"{RUN}, which builds it again from the landing"
    yield from _of(damage, "lakehouse-damaged", rebuilt, Kind.LAKEHOUSE, Kind.STATE)
    restored = f"{RESTORE}, which takes the other copy or USDA's if those bytes are still posted"
    yield from _of(damage, "landing-damaged", restored, Kind.ZIP, Kind.BUCKET_ZIP, Kind.MARKER)
    yield from _of(damage, "rows-damaged", f"{RUN}, which unpacks the zip again", Kind.ROWS)
    yield from _of(damage, "bucket-damaged", f"{RUN}, which uploads it again", Kind.BUCKET_GENERATION)
    record = read_record(settings)
    if record.error:
        what = f"what is stored could not be verified: {record.error}"
        yield Problem(
            Severity.FAILED, what, record.attempted_at, "materia scrub; it is tried again", key="scrub-failed"
        )


def _of(damage: Sequence[Damage], key: str, next_step: str, *kinds: Kind) -> Iterator[Problem]:
    ours = [each for each in damage if each.kind in kinds]
    if not ours:
        return
    named = "; ".join(f"{each.name}: {each.why}" for each in ours[:_NAMED])
    more = f"; and {len(ours) - _NAMED} more" if len(ours) > _NAMED else ""
    yield Problem(Severity.DAMAGED, f"{ours[0].kind} is damaged: {named}{more}", None, next_step, key=key)

"""Damage as problems: one per kind of repair, and one for a scrub that could not read everything."""

from collections.abc import Iterator, Sequence

from ops.config.settings import Settings
from ops.health.problem import Problem, Severity
from ops.integrity.damage import known_damage
from ops.integrity.record import Damage, Kind, read_record

RUN, RESTORE = "materia run-all", "materia landing repair"
_MAX_NAMED = 3
"""Damaged files named in one problem; the others are counted."""


def damage_problems(settings: Settings) -> Iterator[Problem]:
    """The known damage, and why the last scrub failed, if it did."""
    damage = known_damage(settings)
    yield from _damage_problem(damage, "serving-damaged", f"{RUN}, which publishes it again", Kind.SERVED)
    yield from _damage_problem(damage, "generation-damaged", f"{RUN}, which sets it aside", Kind.GENERATION)
    rebuilt = f"{RUN}, which builds it again from the landing"
    yield from _damage_problem(damage, "lakehouse-damaged", rebuilt, Kind.LAKEHOUSE, Kind.STATE, Kind.LAKE_FILE)
    restored = f"{RESTORE}, which restores it from the other copy or from USDA's archive"
    yield from _damage_problem(damage, "landing-damaged", restored, Kind.ZIP, Kind.BUCKET_ZIP, Kind.MARKER)
    yield from _damage_problem(damage, "rows-damaged", f"{RUN}, which unpacks the zip again", Kind.ROWS)
    yield from _damage_problem(damage, "bucket-damaged", f"{RUN}, which uploads it again", Kind.BUCKET_GENERATION)
    record = read_record(settings)
    if record.error:
        what = f"the scrub could not read everything: {record.error}"
        yield Problem(
            Severity.FAILED, what, record.attempted_at, "materia scrub; the supervisor retries it", key="scrub-failed"
        )


def _damage_problem(damage: Sequence[Damage], key: str, next_step: str, *kinds: Kind) -> Iterator[Problem]:
    ours = [each for each in damage if each.kind in kinds]
    if not ours:
        return
    named = "; ".join(f"{each.name}: {each.why}" for each in ours[:_MAX_NAMED])
    more = f"; and {len(ours) - _MAX_NAMED} more" if len(ours) > _MAX_NAMED else ""
    yield Problem(Severity.DAMAGED, f"{ours[0].kind} is damaged: {named}{more}", None, next_step, key=key)

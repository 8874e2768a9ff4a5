"""What an operator does with generations: see them, go back to one, check one."""

from dataclasses import dataclass

from dataflows.errors import ServingBrokenError, ServingMissingError
from dataflows.serving.generation import FOREIGN_NUMBER, Generation
from dataflows.serving.store import ServingStore
from ops.config.settings import Settings
from ops.pipelines import iceberg
from ops.pipelines.job import Request, open_job


@dataclass(frozen=True)
class Generations:
    """The generations that are kept, newest first; `served` may be a file that Materia did not publish."""

    served: Generation | None
    kept: tuple[Generation, ...]
    notice: str | None
    """Why the served generation is not known."""


def take_generations(settings: Settings) -> Generations:
    """Read the sidecars; raises ServingBrokenError when one can't be understood. Opens no database."""
    store = ServingStore(settings.serving_path)
    kept = tuple(reversed(store.generations()))
    try:
        return Generations(store.served(), kept, None)
    except ServingBrokenError as error:
        return Generations(None, kept, str(error))


def rollback(settings: Settings, number: int | None) -> str:
    """Serve generation `number` again, by default the one before the served one; returns the outcome in a line.

    Takes the writer's lock and is recorded as a run. Raises ServingMissingError, before anything is recorded,
    when there is no such generation, ServingBrokenError when its file has changed, LockHeldError.
    """
    found = take_generations(settings)
    _require(number, found, settings)
    with open_job("rollback", settings, Request(), (str(number),) if number else ()) as job:
        generation = job.serving.rollback(number)
        job.recorder.snapshots = generation.snapshots
        job.recorder.result = _outcome(found.served, generation)
        iceberg.keep_up(job)
        return job.recorder.result


def verify(settings: Settings, number: int | None) -> Generation:
    """Check a generation's sha256 and read all of it in a fresh process; by default the served one.

    Raises ServingMissingError, ServingBrokenError.
    """
    store = ServingStore(settings.serving_path)
    if number is None:
        served = store.served()
        if served is None:
            raise ServingMissingError(f"nothing is served at {settings.serving_path} yet; run `materia run-all`")
        if served.number == FOREIGN_NUMBER:
            raise ServingMissingError(
                f"{settings.serving_path} was not published by Materia, so nothing tells what it should hold"
            )
        number = served.number
    return store.verify(number)


def _require(number: int | None, found: Generations, settings: Settings) -> None:
    """Refuse what cannot be done before it is recorded: a slip of the keyboard is no failed run."""
    numbers = [generation.number for generation in found.kept]
    if not numbers:
        raise ServingMissingError(f"no generation is kept beside {settings.serving_path}; run `materia run-all`")
    if number is not None and number not in numbers:
        what = f"generation {number} is not kept"
    elif number is None and found.served and FOREIGN_NUMBER < found.served.number <= min(numbers):
        what = f"nothing before generation {found.served.number} is kept"
    else:
        return
    raise ServingMissingError(f"{what} beside {settings.serving_path}; `materia serving list` shows what is")


def _outcome(before: Generation | None, now: Generation) -> str:
    if before and before.number == now.number:
        return f"generation {now.number} was served already"
    instead = f" instead of {before.number}" if before else ""
    return f"generation {now.number} serves again{instead}, releases to {now.newest_released_on}"

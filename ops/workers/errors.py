"""What may go wrong with a worker."""

from dataflows.errors import MateriaError


class WorkerError(MateriaError):
    """A provider or a worker did not do as it should."""


class RefusedError(WorkerError):
    """A provider does not take the credentials, or they do not allow what is to be done."""


class CapError(WorkerError):
    """A worker was not created, because it would have passed a cap."""


class NoCapacityError(WorkerError):
    """Nothing that fits could be had, at any type and location tried."""


class WorkerLeftError(WorkerError):
    """A worker could not be destroyed and may still cost money; the message names it, its price and the command."""


class ForeignError(WorkerError):
    """Something bears our name and not our label; it is not touched."""


class UnreachableError(WorkerError):
    """A worker could not be reached by SSH, or not any longer."""


class HostKeyError(UnreachableError):
    """What answered is not our worker: its host key is another."""


class RemoteFailedError(WorkerError):
    """A pipeline failed on a worker; `exit_code` is the one it ended with there."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

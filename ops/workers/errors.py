"""Errors of workers and providers."""

from dataflows.errors import MateriaError


class WorkerError(MateriaError):
    """A provider or a worker failed."""


class RefusedError(WorkerError):
    """A provider refuses the credentials, or they do not permit the request."""


class NoCapacityError(WorkerError):
    """No suitable machine was available, at any type and location tried."""


class WorkerLeftError(WorkerError):
    """A worker could not be destroyed and may still cost money; the message names it, its price and the command."""


class ForeignError(WorkerError):
    """A resource has our name but not our label; it is not touched."""


class UnreachableError(WorkerError):
    """A worker could not be reached by SSH, or the connection was lost."""


class HostKeyError(UnreachableError):
    """The machine that answered is not our worker: its host key differs."""


class RemoteFailedError(WorkerError):
    """A pipeline failed on a worker; `exit_code` is the one it ended with there."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

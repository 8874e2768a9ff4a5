"""Materia's own errors: each message gives the cause, the object and the next step."""


class MateriaError(Exception):
    """Base of every expected failure; the command line prints it without a traceback."""

    exit_code = 1


class SettingsError(MateriaError):
    """A setting or an argument is missing or wrong."""

    exit_code = 2


class ArchiveError(MateriaError):
    """The archive failed to answer correctly after all retries."""


class RefusedError(ArchiveError):
    """The archive answers 401 or 403: the file is not posted, or the client is blocked."""


class NotPostedError(ArchiveError):
    """None of the requested releases is in the archive yet."""


class SnapshotError(MateriaError):
    """A downloaded file is not a whole, well-formed PSD snapshot."""


class ReportError(MateriaError):
    """A WASDE report is damaged, unsafe, or has a table or column that is not known."""


class LandingError(MateriaError):
    """The landing could not be read or written."""


class TransformError(MateriaError):
    """SQLMesh failed, or an audit found invalid rows."""


class LakehouseError(MateriaError):
    """The lakehouse could not be opened, moved or maintained."""


class LakehouseLockedError(LakehouseError):
    """Another process has the lakehouse open."""


class GateError(MateriaError):
    """A new generation was refused; the served one stays."""


class ServingError(MateriaError):
    """A serving generation could not be read or published."""


class ServingMissingError(ServingError):
    """Nothing has been published yet."""


class ServingBrokenError(ServingError):
    """The served file exists and is not a readable generation."""


class ReaderClosedError(ServingError):
    """The reader was used after `close()`."""


class QueryError(ServingError):
    """A query failed; the message is DuckDB's own."""


class QueryTimeoutError(QueryError):
    """A query exceeded its time limit."""


class QueryRefusedError(ServingError):
    """A query was refused: it does more than read the served tables."""


class ExportError(MateriaError):
    """A result could not be written to a file, or its format cannot hold it."""


class DiskSpaceError(MateriaError):
    """Too little free space to begin safely."""


class DiskError(MateriaError):
    """A write failed: the disk is read-only or broken, or this user has no permission."""


class LockHeldError(MateriaError):
    """Another run is writing to this data directory."""

    exit_code = 4


class JournalError(MateriaError):
    """The run journal could not be read or written."""


class MissingToolError(MateriaError):
    """A required program is not installed or does not work."""


class ObjectStoreError(MateriaError):
    """An object storage operation failed."""


class ObjectMissingError(ObjectStoreError):
    """The object is missing."""


class ObjectDamagedError(ObjectStoreError):
    """An object's bytes differ from its recorded size or digest."""


class LostRaceError(ObjectStoreError):
    """Another machine wrote first; its work was not overwritten."""


class IcebergError(MateriaError):
    """An Iceberg catalog operation failed; the served generation is untouched."""

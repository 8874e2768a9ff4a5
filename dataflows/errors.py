"""The errors Materia raises on purpose: each says what happened, to what, and what to do next."""


class MateriaError(Exception):
    """Base of every expected failure; the command line prints it without a traceback."""

    exit_code = 1


class SettingsError(MateriaError):
    """A setting or an argument is missing or wrong."""

    exit_code = 2


class ArchiveError(MateriaError):
    """The archive did not answer as it should, after the retries that make sense."""


class RefusedError(ArchiveError):
    """The archive answers 401 or 403: the file is not posted, or the client is blocked."""


class NotPostedError(ArchiveError):
    """None of the releases asked for is in the archive (yet)."""


class SnapshotError(MateriaError):
    """A downloaded file is not a whole, well-formed PSD snapshot."""


class LandingError(MateriaError):
    """The landing could not be read or written."""


class TransformError(MateriaError):
    """SQLMesh failed, or an audit found rows that must not be there."""


class LakehouseError(MateriaError):
    """The lakehouse could not be opened, moved or looked after."""


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
    """A query was stopped because its time was up."""


class QueryRefusedError(ServingError):
    """A query was not run: it does something other than read the served tables."""


class DiskSpaceError(MateriaError):
    """Too little free space to begin safely."""


class DiskError(MateriaError):
    """The disk refuses: it is read-only or broken, or this user may not write there."""


class LockHeldError(MateriaError):
    """Another run is writing to this data directory."""

    exit_code = 4


class JournalError(MateriaError):
    """The run journal could not be read or written."""


class MissingToolError(MateriaError):
    """A program that this needs is not installed, or does not work."""


class ObjectStoreError(MateriaError):
    """Object storage did not do what was asked."""


class ObjectAccessError(ObjectStoreError):
    """Object storage refused: wrong keys, missing permission, no such bucket, or a clock that is off."""


class ObjectUnavailableError(ObjectStoreError):
    """Object storage did not answer as it should, after the retries that make sense."""


class ObjectMissingError(ObjectStoreError):
    """The object is not there (any more)."""


class ObjectDamagedError(ObjectStoreError):
    """An object's bytes are not those that its description promises."""


class LostRaceError(ObjectStoreError):
    """Another machine wrote first; nothing of its work was overwritten."""


class IcebergError(MateriaError):
    """The Iceberg catalog did not do what was asked; what is served is untouched."""


class IcebergAccessError(IcebergError):
    """The Iceberg catalog, or its object storage, refused: wrong token, missing permission, no such warehouse."""


class IcebergUnavailableError(IcebergError):
    """The Iceberg catalog, or its object storage, did not answer as it should."""


class IcebergConflictError(IcebergError):
    """Another machine published meanwhile, or something newer; nothing of its work was overwritten."""

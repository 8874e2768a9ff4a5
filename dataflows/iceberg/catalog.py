"""An Iceberg REST catalog: its address, how to open it, and its errors. Importing this does not import pyiceberg.

The files are written with the credentials that the catalog vends per table. Keys of this machine are not used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from dataflows.errors import IcebergError, MissingToolError

if TYPE_CHECKING:
    from pyiceberg.catalog.rest import RestCatalog
    from requests import Session

CONNECT_TIMEOUT_S = 10.0
RESPONSE_TIMEOUT_S = 60.0

_OTHER_ERRORS = (ValueError, TypeError, KeyError, NotImplementedError)
"""What pyiceberg raises for answers that it cannot read, and for HTTP status 501."""

_CHECK_CREDENTIALS = "check that ICEBERG_TOKEN or ICEBERG_CREDENTIAL is valid and may write"
_ACCESS_ERRORS = ("UnauthorizedError", "ForbiddenError", "OAuthError", "AuthorizationExpiredError")


@dataclass(frozen=True)
class CatalogAddress:
    """An Iceberg REST catalog, our namespace in it, and a token or client credentials."""

    uri: str
    warehouse: str
    namespace: str = "serving"
    keep_days: int = 30
    """How long a replaced snapshot stays readable."""
    token: str | None = field(default=None, repr=False)
    """A bearer token."""
    credential: str | None = field(default=None, repr=False)
    """`client-id:client-secret`, for a token from the catalog's own OAuth endpoint."""

    def __str__(self) -> str:
        return f"{self.namespace} of {self.warehouse} at {self.uri}"


def open_catalog(address: CatalogAddress) -> "RestCatalog":
    """Open the catalog. Raises MissingToolError without pyiceberg, IcebergError when the catalog refuses or fails."""
    try:
        from pyiceberg.catalog.rest import RestCatalog
    except ImportError as error:
        raise MissingToolError(
            "publishing to Iceberg needs pyiceberg; install the extra: `uv sync --extra iceberg`, "
            "on the supervisor's host MATERIA_EXTRAS=iceberg"
        ) from error
    from requests import Session

    class BoundedCatalog(RestCatalog):
        # pyiceberg 0.12 sends requests without a timeout, and none of its properties sets one: a catalog that accepts
        # a connection and never answers would block a run for ever. This private method is its only place to set one.
        def _create_session(self) -> Session:
            return _with_timeout(super()._create_session())

    oauth = {
        "session": _with_timeout(Session()),
        "auth_url": f"{address.uri}/v1/oauth/tokens",
        "credential": address.credential,
        "initial_token": address.token,
        "optional_oauth_params": {"scope": "catalog"},
    }
    properties: dict[str, str] = {
        "uri": address.uri,
        "warehouse": address.warehouse,
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
        "s3.connect-timeout": str(CONNECT_TIMEOUT_S),
        "s3.request-timeout": str(RESPONSE_TIMEOUT_S),
    }
    with catalog_errors(f"the Iceberg catalog at {address.uri}"):
        # The parameters are typed as texts; pyiceberg documents `auth` as a dictionary.
        return BoundedCatalog("materia", **properties, auth={"type": "legacyoauth2", "legacyoauth2": oauth})  # type: ignore[arg-type]


def _with_timeout(session: "Session") -> "Session":
    timeout = (CONNECT_TIMEOUT_S, RESPONSE_TIMEOUT_S)
    session.request = partial(session.request, timeout=timeout)  # type: ignore[method-assign]
    return session


@contextmanager
def catalog_errors(what: str) -> Iterator[None]:
    """Raise what pyiceberg, its HTTP client and its file system raise as IcebergError that names `what`."""
    from pyarrow import ArrowException
    from pyiceberg import exceptions
    from requests import RequestException

    pyiceberg_errors = [kind for name, kind in vars(exceptions).items() if name.endswith(("Error", "Exception"))]
    try:
        yield
    except (*pyiceberg_errors, RequestException, ArrowException, OSError, *_OTHER_ERRORS) as error:
        # requests wraps the operating system's error several times.
        cause = _innermost(error) if isinstance(error, RequestException) else error
        text = " ".join(f"{type(cause).__name__}: {cause}".split())[:400]
        # The object storage answers ACCESS_DENIED; pyarrow has no error type for it.
        is_denied = type(error).__name__ in _ACCESS_ERRORS or "ACCESS_DENIED" in text
        raise IcebergError(f"{text} ({what}); {_CHECK_CREDENTIALS if is_denied else 'try again later'}") from error


def _innermost(error: BaseException) -> BaseException:
    return _innermost(error.__context__) if error.__context__ else error

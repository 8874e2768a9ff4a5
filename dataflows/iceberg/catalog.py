"""An Iceberg REST catalog: where it is, how to open it, and its failures as ours. pyiceberg is imported to open it.

The object storage behind it is reached with the credentials that the catalog vends per table; none of ours are used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dataflows.errors import (
    IcebergAccessError,
    IcebergConflictError,
    IcebergError,
    IcebergUnavailableError,
    MissingToolError,
)

if TYPE_CHECKING:
    from pyiceberg.catalog.rest import RestCatalog
    from requests import Session
    from requests.adapters import HTTPAdapter

CONNECT_WITHIN_S = 10.0
ANSWER_WITHIN_S = 60.0

_ACCESS = ("UnauthorizedError", "ForbiddenError", "OAuthError", "AuthorizationExpiredError")
_UNAVAILABLE = ("ServerError", "ServiceUnavailableError", "TooManyRequestsError", "CommitStateUnknownException")
_CONFLICT = ("CommitFailedException", "ValidationException")


@dataclass(frozen=True)
class CatalogAddress:
    """An Iceberg REST catalog, the namespace in it that is ours, and what opens it: a token or client credentials."""

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
    """Open the catalog. Raises MissingToolError without pyiceberg, IcebergAccessError, IcebergUnavailableError."""
    try:
        from pyiceberg.catalog.rest import RestCatalog
    except ImportError as error:
        raise MissingToolError(
            "publishing to Iceberg needs pyiceberg; install the extra: `uv sync --extra iceberg`, "
            "on the supervisor's host MATERIA_EXTRAS=iceberg"
        ) from error

    class BoundedCatalog(RestCatalog):
        """pyiceberg sets no timeout for its requests."""

        def _create_session(self) -> "Session":
            session = super()._create_session()
            for scheme in ("http://", "https://"):
                session.mount(scheme, _bounded_adapter())
            return session

    with catalog_errors(f"the Iceberg catalog at {address.uri}"):
        return BoundedCatalog(
            "materia",
            uri=address.uri,
            warehouse=address.warehouse,
            token=address.token or _granted_token(address),
            **{
                "oauth2-server-uri": f"{address.uri}/v1/oauth/tokens",  # never asked: the token is there
                "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
                "s3.connect-timeout": str(CONNECT_WITHIN_S),
                "s3.request-timeout": str(ANSWER_WITHIN_S),
            },
        )


def _bounded_adapter() -> "HTTPAdapter":
    from requests.adapters import HTTPAdapter

    class BoundedAdapter(HTTPAdapter):
        def send(self, *arguments: Any, **options: Any) -> Any:
            options["timeout"] = (CONNECT_WITHIN_S, ANSWER_WITHIN_S)
            return super().send(*arguments, **options)

    return BoundedAdapter()


def _granted_token(address: CatalogAddress) -> str:
    """A token from the catalog's OAuth endpoint (Iceberg's REST specification, `/v1/oauth/tokens`)."""
    import httpx

    client_id, _, secret = (address.credential or "").partition(":")
    url = f"{address.uri.rstrip('/')}/v1/oauth/tokens"
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret, "scope": "catalog"}
    try:
        answer = httpx.post(url, data=form, timeout=ANSWER_WITHIN_S)
        token = answer.json().get("access_token") if answer.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise IcebergUnavailableError(f"{url} did not answer as it should: {error}; try again later") from error
    if not isinstance(token, str):
        kind = IcebergUnavailableError if answer.status_code >= 500 else IcebergAccessError
        raise kind(f"{url} granted no token (HTTP {answer.status_code}); see that ICEBERG_CREDENTIAL is right")
    return token


@contextmanager
def catalog_errors(what: str) -> Iterator[None]:
    """Turn what pyiceberg, its HTTP client and its file system raise inside into IcebergError, naming `what`."""
    from pyarrow import ArrowException
    from pyiceberg import exceptions
    from requests import RequestException

    ours = (*(getattr(exceptions, name) for name in dir(exceptions) if name.endswith(("Error", "Exception"))),)
    try:
        yield
    except ours as error:
        raise _typed(what, error) from error
    except RequestException as error:
        raise IcebergUnavailableError(f"{what} did not answer: {_brief(error)}; try again later") from error
    except (OSError, ArrowException) as error:
        denied = "ACCESS_DENIED" in str(error) or "403" in str(error)
        kind, step = (
            (IcebergAccessError, "see that the catalog vends credentials that may write there")
            if denied
            else (IcebergUnavailableError, "try again later")
        )
        raise kind(f"{what}: its object storage failed: {_brief(error)}; {step}") from error
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise IcebergError(f"{what}: {type(error).__name__}: {_brief(error)}") from error


def _typed(what: str, error: Exception) -> IcebergError:
    name = type(error).__name__
    if name in _ACCESS:
        return IcebergAccessError(f"{what} refused: {_brief(error)}; see that ICEBERG_TOKEN is valid and may write")
    if name in _UNAVAILABLE:
        return IcebergUnavailableError(f"{what} failed: {_brief(error)}; try again later")
    if name in _CONFLICT:
        return IcebergConflictError(f"{what} was changed by another publisher meanwhile: {_brief(error)}")
    return IcebergError(f"{what}: {name}: {_brief(error)}")


def _brief(error: Any) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__

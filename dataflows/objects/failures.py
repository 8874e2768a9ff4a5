"""Translate boto3 errors into our errors: the cause, the object, the setting to check."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dataflows.errors import LostRaceError, ObjectDamagedError, ObjectMissingError, ObjectStoreError, SettingsError
from dataflows.objects.answers import FOREIGN

_WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "Unauthorized", "InvalidToken", "ExpiredToken")
_WRONG_CLOCK = ("RequestTimeTooSkewed", "RequestExpired")
_BUSY = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "TooManyRequests", "Throttling")


@contextmanager
def translate_errors(action: str, url: str, endpoint: str, attempts: int) -> Iterator[None]:
    """Raise boto3 errors of the enclosed block as our own errors; `action` is a verb, `url` the object."""
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    try:
        yield
    except ClientError as error:
        kind, cause, next_step = _explain(error.response, attempts)
        raise kind(f"{cause}: could not {action} {url}; {next_step}") from error
    except ParamValidationError as error:
        raise SettingsError(f"invalid bucket name: could not {action} {url}; check R2_BUCKET") from error
    except (BotoCoreError, ConnectionError, TimeoutError) as error:
        raise ObjectStoreError(
            f"{endpoint} does not answer ({type(error).__name__}, {attempts} attempts): could not {action} {url}; "
            "check R2_ENDPOINT and the network, then run again"
        ) from error


def _explain(answer: dict[str, Any], attempts: int) -> tuple[type[ObjectStoreError], str, str]:
    """The type of our error, the cause, and the next step for an error that the store answered."""
    error = answer.get("Error", {})
    code = str(error.get("Code", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    cause = code or f"HTTP {status}"
    if code in _WRONG_CLOCK:
        return ObjectStoreError, cause, "this machine's clock is wrong; set it (the R2_ settings are not the cause)"
    if code in _WRONG_KEYS or status == 401:
        return ObjectStoreError, cause, "the keys are not accepted, check R2_ACCESS_KEY and R2_SECRET_KEY"
    if code == "NoSuchBucket":
        return ObjectStoreError, cause, "check R2_BUCKET and R2_ENDPOINT"
    if code == FOREIGN:
        return (
            ObjectStoreError,
            f"not an answer of object storage ({error.get('Message', '')}, {attempts} attempts)",
            "a proxy or firewall answers instead; check R2_ENDPOINT and the network, then run again: nothing changed",
        )
    if code == "PreconditionFailed" or status == 412:
        return LostRaceError, cause, "another machine wrote it first"
    if status == 403:
        return ObjectStoreError, cause, "give R2_ACCESS_KEY the permission to read and write objects of R2_BUCKET"
    if status == 404:
        return ObjectMissingError, cause, "the object is missing"
    if status == 416:
        return ObjectDamagedError, cause, "the object is shorter than recorded"
    if code in _BUSY or status >= 500 or status == 429:
        return ObjectStoreError, f"{cause}, {attempts} attempts", "the store is busy or down, run again later"
    return ObjectStoreError, f"{cause} (HTTP {status})", "check R2_ENDPOINT, R2_BUCKET and the keys"

"""Translate boto3 errors into typed errors that name the object and the setting to check."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dataflows.errors import (
    LostRaceError,
    ObjectAccessError,
    ObjectDamagedError,
    ObjectMissingError,
    ObjectStoreError,
    ObjectUnavailableError,
    SettingsError,
)
from dataflows.objects.answers import FOREIGN

_WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "Unauthorized", "InvalidToken", "ExpiredToken")
_SKEWED = ("RequestTimeTooSkewed", "RequestExpired")
_BUSY = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "TooManyRequests", "Throttling")


@contextmanager
def translate_errors(action: str, url: str, endpoint: str, attempts: int) -> Iterator[None]:
    """Raise boto3 errors of the enclosed block as our own errors; `action` is a verb, `url` the object."""
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    try:
        yield
    except ClientError as error:
        raise _refusal(error.response, action, url, attempts) from error
    except ParamValidationError as error:
        raise SettingsError(f"could not {action} {url}: invalid bucket name; check R2_BUCKET") from error
    except (BotoCoreError, ConnectionError, TimeoutError) as error:
        raise ObjectUnavailableError(
            f"could not {action} {url}: {endpoint} does not answer ({type(error).__name__}, {attempts} attempts); "
            "check R2_ENDPOINT and the network, then run again: what was transferred is kept"
        ) from error


def _refusal(answer: dict[str, Any], action: str, url: str, attempts: int) -> ObjectStoreError:
    code = str(answer.get("Error", {}).get("Code", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    what = f"could not {action} {url}: {code or f'HTTP {status}'}"
    if code in _SKEWED:
        return ObjectAccessError(f"{what}; this machine's clock is wrong; set it (the R2_ settings are not the cause)")
    if code in _WRONG_KEYS or status == 401:
        return ObjectAccessError(f"{what}; the keys are not accepted, check R2_ACCESS_KEY and R2_SECRET_KEY")
    if code == "NoSuchBucket":
        return ObjectAccessError(f"{what}; check R2_BUCKET and R2_ENDPOINT")
    if code == FOREIGN:
        message = answer["Error"].get("Message", "")
        return ObjectUnavailableError(
            f"could not {action} {url}: {message}, {attempts} attempts; not an answer of object storage: a proxy or "
            "firewall answers in its place. Check R2_ENDPOINT and the network, then run again: nothing was changed"
        )
    if code == "PreconditionFailed" or status == 412:
        return LostRaceError(f"{what}; another machine wrote it first")
    if status == 403:
        return ObjectAccessError(
            f"{what}; R2_ACCESS_KEY may not do this, give it the permission to read and write objects of R2_BUCKET"
        )
    if status == 404:
        return ObjectMissingError(f"{what}; the object is missing")
    if status == 416:
        return ObjectDamagedError(f"{what}; the object is shorter than recorded")
    if code in _BUSY or status >= 500 or status == 429:
        return ObjectUnavailableError(
            f"{what}, {attempts} attempts; the store is busy or down, run again later: what was transferred is kept"
        )
    return ObjectStoreError(f"{what} (HTTP {status}); check R2_ENDPOINT, R2_BUCKET and the keys")

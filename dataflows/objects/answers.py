"""Detect answers that do not come from object storage but from a proxy, a firewall or a login page.

409 on a conditional write is retried, too. Both work as botocore's own handler for errors under status 200 does:
the answer's status is changed before it is parsed, and botocore's retries do the rest.
"""

import re
from typing import Any

FOREIGN = "NotAnObjectStorageAnswer"
"""Error code of an answer that cannot come from object storage."""

_ROOT_OF = {"ListObjectsV2": "ListBucketResult"}
"""Root element of the answer. botocore does not check it and reads any other document as an empty answer."""

_HEADERS_OF = {
    "GetObject": ("etag", "content-length"),
    "HeadObject": ("etag", "content-length", "last-modified"),
    "PutObject": ("etag",),
}
_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<(?:\w+:)?(\w+)[\s/>]", re.DOTALL)
_ERROR = b"<Error><Code>%s</Code><Message>%s</Message></Error>"
_CONFLICT = 409
"""Another request for the same object is running; retry. (412 means that another object is there.)"""
_BAD_GATEWAY = 502
_UNAVAILABLE = 503


def check_answers(client: Any) -> None:
    """Register the check of each answer with an S3 client."""
    client.meta.events.register("before-parse.s3", _check)


def _check(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    if reason := _explain_foreign_answer(operation_model.name, response_dict):
        if not isinstance(response_dict["body"], bytes):
            response_dict["body"].close()
        response_dict["status_code"] = _BAD_GATEWAY
        response_dict["body"] = _ERROR % (FOREIGN.encode(), reason.encode())
    elif response_dict["status_code"] == _CONFLICT:
        response_dict["status_code"] = _UNAVAILABLE


def _explain_foreign_answer(operation: str, answer: dict[str, Any]) -> str | None:
    """Return why an answer cannot come from object storage; None when it can."""
    status = answer["status_code"]
    if answer["headers"].get("content-type", "").lower().startswith("text/html"):
        return f"HTTP {status} with a web page"
    if status >= 300:
        return None
    missing = [name for name in _HEADERS_OF.get(operation, ()) if name not in answer["headers"]]
    if missing:
        return f"HTTP {status} without {missing[0]}"
    root = _root_element(answer["body"]) if operation not in ("GetObject", "HeadObject") else None
    if root not in (_ROOT_OF.get(operation), "Error"):
        return f"HTTP {status} with {f'the document {root}' if root else 'no document'}"
    return None


def _root_element(body: bytes) -> str | None:
    """The name of an XML document's root element; None for an empty body, `text` for one that is not XML."""
    if not body.strip():
        return None
    found = _ROOT.match(body)
    return found[1].decode() if found else "text"

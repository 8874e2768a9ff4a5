"""The published OpenAPI description of Hetzner's API, ready to compare with our contract and the stand-in's traffic."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tests.support.fake_cloud import Answer, Asked
from tests.support.hetzner_contract import OPERATIONS, Operation
from tests.support.real_files import HETZNER_DESCRIPTION

NEWER = {"available", "recommended"}
"""Fields of a server type's location that are newer than the description; `hcloud` expects them."""


@cache
def description() -> dict[str, Any]:
    """The description, in the form that openapi-core reads."""
    described = json.loads(HETZNER_DESCRIPTION.read_text())
    for path in described["paths"].values():
        path.pop("servers", None)
        for operation in path.values():
            # OpenAPI writes ranges of status codes in capitals.
            if isinstance(operation, dict) and "responses" in operation:
                operation["responses"] = {code.upper(): each for code, each in operation["responses"].items()}
    described = _with_nulls(described, described)
    described["servers"] = [{"url": "http://hetzner.test"}]
    return described


def contract_differences() -> list[str]:
    """How our contract differs from the description."""
    return [difference for operation in OPERATIONS for difference in _operation_differences(operation)]


def exchange_faults(asked: Asked, answer: Answer) -> str | None:
    """How a recorded request and its answer differ from the description; None where they do not."""
    from openapi_core.exceptions import OpenAPIError
    from openapi_core.testing import MockRequest, MockResponse

    request = MockRequest(
        "http://hetzner.test",
        asked.method.lower(),
        asked.path,
        args=dict(asked.query),
        headers={"Authorization": "Bearer token"},
        data=asked.raw or None,
        content_type="application/json",
    )
    body = b"" if answer.body is None else json.dumps(answer.body).encode()
    response = MockResponse(body, status_code=answer.status, content_type="application/json" if body else "")
    try:
        _openapi().validate_request(request)
        _openapi().validate_response(request, response)
    except OpenAPIError as error:
        return f"{asked.method} {asked.path} -> {answer.status}: {error!r}: {error.__cause__!r}"[:2000]
    return None


@cache
def _openapi() -> Any:
    from openapi_core import Config, OpenAPI

    return OpenAPI.from_dict(description(), config=Config(spec_validator_cls=None))


def _operation_differences(operation: Operation) -> Iterator[str]:
    where = f"{operation.method} {operation.path}"
    described = description()["paths"].get(operation.path, {}).get(operation.method.lower())
    if described is None:
        yield f"{where} is not described"
        return
    parameters = {each["name"] for each in described.get("parameters", ()) if each["in"] == "query"}
    yield from (f"{where}?{name} is not described" for name in operation.query.model_fields.keys() - parameters)
    if operation.request is not None:
        body = described["requestBody"]["content"]["application/json"]["schema"]
        yield from _Comparison(operation.request.model_json_schema()).differences(body, f"{where} request")
    answer = described["responses"].get(str(operation.status))
    if answer is None:
        yield f"{where} is not answered with {operation.status}"
    elif operation.response is not None:
        body = answer["content"]["application/json"]["schema"]
        yield from _Comparison(operation.response.model_json_schema()).differences(body, f"{where} response")
    elif "content" in answer:
        yield f"{where} is answered with a body"


class _Comparison:
    """One of our JSON schemas against a described one."""

    def __init__(self, ours: dict[str, Any]) -> None:
        self._ours = ours

    def differences(self, theirs: Any, where: str, ours: Any = None) -> Iterator[str]:
        mine, mine_null = self._plain(self._ours if ours is None else ours)
        described, described_null = _plain(theirs)
        if mine_null != described_null and not (mine_null and "default" in (ours or {})):
            yield f"{where}: may be null {'here' if mine_null else 'there'} only"
        if mine["type"] != described.get("type", "object"):
            yield f"{where}: {mine['type']} here, {described.get('type')} there"
            return
        if set(mine.get("enum", ())) != set(described.get("enum", ())):
            yield f"{where}: {mine.get('enum')} here, {described.get('enum')} there"
        if (mine.get("format") == "date-time") != (described.get("format") == "date-time"):
            yield f"{where}: a time on one side only"
        if mine["type"] == "array":
            yield from self.differences(described["items"], f"{where}[]", mine["items"])
        elif "properties" in mine:
            yield from self._property_differences(mine, described, where)
        elif isinstance(values := described.get("additionalProperties"), dict):
            pattern = mine["additionalProperties"].get("pattern")
            if pattern != values.get("pattern"):
                yield f"{where}: values match {pattern} here, {values.get('pattern')} there"

    def _property_differences(self, mine: Any, described: Any, where: str) -> Iterator[str]:
        for name in set(described.get("required", ())) - set(mine.get("required", ())):
            yield f"{where}.{name} is required there only"
        for name, each in mine["properties"].items():
            if name in described.get("properties", {}):
                yield from self.differences(described["properties"][name], f"{where}.{name}", each)
            elif not (where.endswith("locations[]") and name in NEWER):
                yield f"{where}.{name} is not described"

    def _plain(self, schema: Any) -> tuple[dict[str, Any], bool]:
        """Our schema without references, and whether it may be null."""
        if "$ref" in schema:
            return self._plain(self._ours["$defs"][schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            (inner,) = (each for each in schema["anyOf"] if each.get("type") != "null")
            return self._plain(inner)[0], True
        if "const" in schema:
            return schema | {"enum": [schema["const"]]}, False
        return schema, False


def _plain(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """A described schema without references, and whether it may be null."""
    is_nullable = bool(schema.get("nullable"))
    while "$ref" in schema or "allOf" in schema:
        if "allOf" in schema:
            (schema,) = schema["allOf"]
        else:
            schema = description()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        is_nullable = is_nullable or bool(schema.get("nullable"))
    return schema, is_nullable


def _with_nulls(node: Any, described: Mapping[str, Any]) -> Any:
    """`nullable` beside a lone `allOf` means the same, or null; OpenAPI 3.0 lets it mean so only beside a `type`."""
    if isinstance(node, list):
        return [_with_nulls(each, described) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("nullable") and len(node.get("allOf", [])) == 1 and "type" not in node:
        (meant,) = node["allOf"]
        for part in meant.get("$ref", "#").split("/")[1:]:
            meant = (described if meant is node["allOf"][0] else meant)[part]
        node = {**meant, "nullable": True}
    return {name: _with_nulls(each, described) for name, each in node.items()}

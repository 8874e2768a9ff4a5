"""Hold JSON against the models that a provider's SDK was generated with: its published description, as code.

Scaleway's are dataclasses (a field without a default is required), Oracle's say in their docstrings what is required.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any


def as_dataclass(model: type, data: Any, where: str = "", known: frozenset[str] = frozenset()) -> Iterator[str]:
    """How an object differs from a generated dataclass; fields that are `known` otherwise may be missing."""
    if not isinstance(data, dict):
        yield f"{where}: no object, {data!r}"
        return
    hints = _hints(model)
    required = {
        each.name.rstrip("_")
        for each in dataclasses.fields(model)
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    }
    for name in sorted(required - data.keys() - known):
        yield f"{where}.{name} is missing"
    for name, value in data.items():
        if name not in hints:
            yield f"{where}.{name} is not described"
        else:
            yield from _as_type(hints[name], value, f"{where}.{name}")


@cache
def _hints(model: type) -> dict[str, Any]:
    # A trailing underscore keeps a field's name from being one of Python's own.
    return {name.rstrip("_"): hint for name, hint in typing.get_type_hints(model).items()}


def _as_type(hint: Any, value: Any, where: str) -> Iterator[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is not None or type(None) not in arguments:
            (inner,) = (each for each in arguments if each is not type(None))
            yield from _as_type(inner, value, where)
    elif origin is list and isinstance(value, list):
        for number, each in enumerate(value):
            yield from _as_type(arguments[0], each, f"{where}[{number}]")
    elif origin is dict and isinstance(value, dict):
        for name, each in value.items():
            yield from _as_type(arguments[1], each, f"{where}[{name}]")
    elif dataclasses.is_dataclass(hint):
        yield from as_dataclass(typing.cast(type, hint), value, where)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        if value not in [each.value for each in hint]:
            yield f"{where}: {value!r} is no {hint.__name__}"
    elif hint is datetime:
        yield from _as_time(value, where)
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{where}: {value!r} is no number"
    elif isinstance(hint, type) and not (isinstance(value, hint) and (hint is bool) == isinstance(value, bool)):
        yield f"{where}: {value!r} is no {hint.__name__}"


def as_oracle_model(model: type, data: Any, where: str = "") -> Iterator[str]:
    """How an object differs from a model of Oracle's SDK."""
    if not isinstance(data, dict):
        yield f"{where}: no object, {data!r}"
        return
    kinds, required, allowed = _of_oracle(model)
    if (subtype := _subtype(model, data)) is not model:
        yield from as_oracle_model(subtype, data, where)
        return
    for name in sorted(required - data.keys()):
        yield f"{where}.{name} is missing"
    for name, value in data.items():
        if name not in kinds:
            yield f"{where}.{name} is not described"
        elif name in allowed and value not in allowed[name]:
            yield f"{where}.{name}: {value!r} is none of {', '.join(allowed[name])}"
        else:
            yield from _as_oracle_type(kinds[name], value, f"{where}.{name}")


@cache
def _of_oracle(model: type) -> tuple[dict[str, str], frozenset[str], dict[str, tuple[str, ...]]]:
    created: Any = model()
    names = created.attribute_map
    kinds = {names[name]: kind for name, kind in created.swagger_types.items()}
    required = frozenset(
        names[name] for name in names if (getattr(model, name).__doc__ or "").strip().startswith("**[Required]**")
    )
    allowed = {}
    for name in names:
        # The generator makes a constant of each allowed value, after the attribute's name.
        values = tuple(v for constant, v in vars(model).items() if re.fullmatch(f"{name.upper()}_[A-Z0-9_]+", constant))
        longer = [other for other in names if other != name and other.startswith(f"{name}_")]
        if values and not longer:
            allowed[names[name]] = values
    return kinds, required, allowed


def _subtype(model: type, data: dict[str, Any]) -> type:
    import oci.core.models as models

    if hasattr(model, "get_subtype"):
        return typing.cast(type, getattr(models, model.get_subtype(data)))
    return model


def _as_oracle_type(kind: str, value: Any, where: str) -> Iterator[str]:
    import oci.core.models as models
    import oci.identity.models as others

    plain = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}
    if (listed := re.fullmatch(r"list\[(.+)\]", kind)) is not None:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for number, each in enumerate(value):
            yield from _as_oracle_type(listed[1], each, f"{where}[{number}]")
    elif (mapped := re.fullmatch(r"dict\(str, (.+)\)", kind)) is not None:
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no object"
            return
        for name, each in value.items():
            yield from _as_oracle_type(mapped[1], each, f"{where}[{name}]")
    elif kind == "datetime":
        yield from _as_time(value, where)
    elif kind in plain:
        if not isinstance(value, plain[kind]) or (isinstance(value, bool) and kind not in ("bool", "object")):
            yield f"{where}: {value!r} is no {kind}"
    else:
        yield from as_oracle_model(getattr(models, kind, None) or getattr(others, kind), value, where)


def _as_time(value: Any, where: str) -> Iterator[str]:
    try:
        datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        yield f"{where}: {value!r} is no time"

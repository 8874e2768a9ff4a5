"""Values and names as DuckDB reads them in SQL text."""

import math

_EXACT_CHARACTERS = 16
"""A decimal point and fifteen digits."""


def identifier(name: str) -> str:
    """`name` quoted as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """`value` as SQL writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, bool | int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def _number(value: float) -> str:
    """A number that DuckDB reads as the very same: more digits than these it would read as a decimal, and round."""
    if not math.isfinite(value):
        return f"'{value}'::DOUBLE"
    text = repr(value)
    return text if "e" in text or len(text) <= _EXACT_CHARACTERS else f"{text}e0"

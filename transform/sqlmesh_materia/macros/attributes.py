"""What the models write for every attribute: a value column, a unit column, and which of them are rates."""

from sqlmesh import macro

from .attribute_list import COLUMN_OF_ATTRIBUTE, PARTS_OF_ATTRIBUTE, RATE_UNITS, RATES


@macro()
def attribute_values(evaluator, attribute_id, value):
    """A column per attribute: its value on the balance sheet. On DuckDB, CASE takes half the time of FILTER."""
    return [
        f'MAX(CASE WHEN {attribute_id} = {number} THEN {value} END) AS "{column}"'
        for number, column in COLUMN_OF_ATTRIBUTE.items()
    ]


@macro()
def attribute_units(evaluator, attribute_id, unit):
    """A column per attribute: the unit its value is in."""
    return [
        f'MAX(CASE WHEN {attribute_id} = {number} THEN {unit} END) AS "{column}_unit"'
        for number, column in COLUMN_OF_ATTRIBUTE.items()
    ]


@macro()
def attribute_columns(evaluator, values, units):
    """Value and unit of every attribute, side by side, from two relations."""
    return [
        expression
        for column in COLUMN_OF_ATTRIBUTE.values()
        for expression in (
            f'{values}."{column}"::DOUBLE AS "{column}"',
            f'{units}."{column}_unit"::TEXT AS "{column}_unit"',
        )
    ]


@macro()
def attribute_parts(evaluator):
    """A relation of every attribute that follows from others (`attribute_id`) and each of these (`part_id`)."""
    pairs = [(total, part) for total, parts in PARTS_OF_ATTRIBUTE.items() for part in parts]
    rows = ", ".join(f"('{total:03}', '{part:03}')" for total, part in pairs)
    return f"(SELECT attribute_id, part_id FROM (VALUES {rows}) AS pair(attribute_id, part_id))"


@macro()
def is_rate(evaluator, attribute_id, unit_id):
    """Whether a value of this attribute and unit is a quotient, which does not add up."""
    attributes = ", ".join(f"'{number:03d}'" for number in RATES)
    units = ", ".join(f"'{unit}'" for unit in RATE_UNITS)
    return f"({attribute_id} IN ({attributes}) OR {unit_id} IN ({units}))"


@macro()
def has_column(evaluator, attribute_id):
    """Whether the pivoted balance sheet has a column for this attribute."""
    attributes = ", ".join(f"'{number:03d}'" for number in COLUMN_OF_ATTRIBUTE)
    return f"{attribute_id} IN ({attributes})"

"""PSD's attributes: which column each one is, and which of them may be summed over countries.

Ids and names: the FAS API's list of commodity attributes as of 2026-10-23. Column names are ours.
"""

from sqlmesh import macro

COLUMN_OF_ATTRIBUTE = {
    1: "area_planted",
    4: "area_harvested",
    5: "catch_for_reduction",
    6: "cows_in_milk",
    7: "crush",
    20: "beginning_stocks",
    22: "sow_beginning_stocks",
    23: "dairy_cows_beginning_stocks",
    25: "beef_cows_beginning_stocks",
    28: "production",
    29: "arabica_production",
    30: "beet_sugar_production",
    31: "commercial_production",
    32: "cows_milk_production",
    33: "farm_sales_weight_production",
    34: "filter_production",
    43: "cane_sugar_production",
    47: "non_commercial_production",
    48: "non_filter_production",
    49: "other_milk_production",
    53: "robusta_production",
    54: "rough_production",
    56: "other_production",
    57: "imports",
    58: "bean_imports",
    62: "intra_eu_imports",
    63: "market_year_imports_from_us",
    64: "raw_imports",
    65: "us_leaf_imports",
    71: "other_imports",
    74: "refined_imports",
    75: "roast_and_ground_imports",
    81: "trade_year_imports",
    82: "soluble_imports",
    84: "trade_year_imports_from_us",
    86: "total_supply",
    88: "exports",
    89: "raw_exports",
    90: "bean_exports",
    94: "intra_eu_exports",
    99: "refined_exports",
    104: "other_exports",
    107: "roast_and_ground_exports",
    113: "trade_year_exports",
    114: "soluble_exports",
    117: "total_slaughter",
    118: "cow_slaughter",
    121: "sow_slaughter",
    122: "calf_slaughter",
    125: "domestic_consumption",
    126: "total_disappearance",
    128: "domestic_leaf_consumption",
    130: "feed_consumption",
    131: "fluid_use_consumption",
    132: "for_processing",
    133: "fresh_consumption",
    135: "fresh_domestic_consumption",
    139: "human_consumption",
    140: "industrial_consumption",
    141: "roast_and_ground_consumption",
    142: "domestic_use",
    147: "factory_use_consumption",
    149: "food_use_consumption",
    150: "loss",
    151: "other_disappearance",
    152: "other_use_and_losses",
    154: "soluble_consumption",
    155: "us_leaf_consumption",
    158: "feed_use_consumption",
    161: "feed_waste_consumption",
    167: "other_foreign_consumption",
    169: "withdrawal_from_market",
    172: "loss_and_residual",
    173: "total_disappearance_and_loss",
    174: "total_use",
    175: "total_utilization",
    176: "ending_stocks",
    178: "total_distribution",
    181: "extraction_rate",
    182: "milling_rate",
    183: "seed_to_lint_ratio",
    184: "yield",
    192: "food_seed_industrial_consumption",
    194: "soybean_meal_equivalent",
    195: "stocks_to_use",
}

RATES = (181, 182, 183, 184, 195)
"""Attributes that are quotients of others; their sum over countries says nothing."""

RATE_UNITS = ("11", "23", "24", "26", "28", "29", "33", "34", "35", "42")
"""Units of quotients (decimal fraction, per cent, ratio, per hectare, milling rates, bushels a ton, months)."""


@macro()
def attribute_values(evaluator, attribute_id, value):
    """A column per attribute: its value on the balance sheet."""
    return [
        f'MAX({value}) FILTER (WHERE {attribute_id} = {number}) AS "{column}"'
        for number, column in COLUMN_OF_ATTRIBUTE.items()
    ]


@macro()
def attribute_units(evaluator, attribute_id, unit):
    """A column per attribute: the unit its value is in."""
    return [
        f'MAX({unit}) FILTER (WHERE {attribute_id} = {number}) AS "{column}_unit"'
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

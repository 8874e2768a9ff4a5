"""The macro `convert(value, unit, commodity_code, to_unit)`, made of the constants in the seeds of SQLMesh.

The constants are part of the macro's text, so that it needs no table in any database.
"""

import csv
from collections.abc import Iterator
from typing import Final

from dataflows.lakehouse.transform import PROJECT_DIR
from dataflows.sql_text import literal

POUND_KG: Final = 0.45359237
_CONVERT: Final = """
CREATE OR REPLACE MACRO {schema}.convert(value, unit, commodity_code, to_unit) AS
list_transform(
  [{{'source': {units}[LOWER(unit)], 'target': {units}[LOWER(to_unit)], 'bushel': {bushels}[commodity_code]}}],
  lambda known: CASE
    WHEN unit IS NULL OR to_unit IS NULL THEN NULL
    WHEN known.target IS NULL THEN error('no unit ' || to_unit || '; serving.dim_unit lists them')
    WHEN known.source IS NULL AND NOT regexp_full_match(unit, '[0-9]{{2}}')
      THEN error('no unit ' || unit || '; serving.dim_unit lists them')
    WHEN known.source.quantity = known.target.quantity THEN
      value * COALESCE(known.source.factor, known.source.bushels * known.bushel)
      / COALESCE(known.target.factor, known.target.bushels * known.bushel)
  END)[1]
"""


def convert_macro(schema: str) -> str:
    """The statement that creates `convert`: a value in another unit.

    Units are ids, names or other names of `serving.dim_unit`, in any case. NULL: the units are of different
    quantities, the crop has no bushel, or the unit is a code that USDA added since. An unknown name is an error.
    """
    units = f"MAP {{{', '.join(f'{literal(name)}: {unit}' for name, unit in _units())}}}"
    bushels = f"MAP {{{', '.join(f'{literal(code)}: {tonnes!r}' for code, tonnes in _bushels())}}}"
    return _CONVERT.format(schema=schema, units=units, bushels=bushels)


def _units() -> Iterator[tuple[str, str]]:
    """Every name of every unit in lower case, once, with its quantity, factor and bushels as a struct."""
    seen = set()
    for row in _seed("units.csv"):
        factor, bushels = (f"{row[name] or 'NULL'}::DOUBLE" for name in ("factor_to_base", "bushels"))
        unit = f"{{'quantity': {literal(row['quantity'])}, 'factor': {factor}, 'bushels': {bushels}}}"
        for name in (row["unit_id"], row["unit_name"], *filter(None, row["other_names"].split("|"))):
            if (key := name.lower()) not in seen:
                seen.add(key)
                yield key, unit


def _bushels() -> Iterator[tuple[str, float]]:
    """Tonnes a bushel, per commodity."""
    for row in _seed("wasde_cycle_commodities.csv"):
        if row["bushel_lb"]:
            yield row["commodity_code"], float(row["bushel_lb"]) * POUND_KG / 1000


def _seed(name: str) -> Iterator[dict[str, str]]:
    with (PROJECT_DIR / "seeds" / name).open(newline="") as file:
        yield from csv.DictReader(file)

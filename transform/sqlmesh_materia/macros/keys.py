"""The stable key of a fact: its natural key as one number, a place for each code (mixed radix).

The key is unique, stable and sorts as the facts do. Ranges: commodity seven digits, country two printable capitals or
digits, market year 1800 to 2199, attribute three digits, unit two. The product stays below 2^63, and landing refuses
codes of any other form.
"""

from sqlmesh import macro

CHARACTERS, YEARS, ATTRIBUTES, UNITS = 64, 400, 1000, 100
"""How many values each place has."""
FIRST_CHARACTER, FIRST_YEAR = 32, 1800
PLACES = "".join(chr(code) if chr(code).isalnum() else " " for code in range(FIRST_CHARACTER, ord("Z") + 1))
"""Digits and capitals, each at its place in ASCII. Engines have a function of their own for the code of a character,
and the same one for a place in a text."""


@macro()
def hkey(evaluator, commodity_code, country_code, market_year, attribute_id, unit_id):
    """The key of a fact."""
    return (
        f"((({commodity_code}::BIGINT * {CHARACTERS * CHARACTERS}"
        f" + (STRPOS('{PLACES}', SUBSTRING({country_code}, 1, 1)) - 1) * {CHARACTERS}"
        f" + STRPOS('{PLACES}', SUBSTRING({country_code}, 2, 1)) - 1) * {YEARS}"
        f" + {market_year}::BIGINT - {FIRST_YEAR}) * {ATTRIBUTES}"
        f" + {attribute_id}::BIGINT) * {UNITS}"
        f" + {unit_id}::BIGINT"
    )


@macro()
def hkey_shift(evaluator, years):
    """What the key of a fact grows by when its market year grows by `years`."""
    return f"({years} * {ATTRIBUTES * UNITS})"

"""The stable key of a fact."""

from sqlmesh import macro


@macro()
def hkey(evaluator, commodity_code, country_code, market_year, attribute_id, unit_id):
    """The natural key as one number: mixed radix, one place per code, so it is unique, stable and sorts
    as the facts do.

    Ranges: commodity seven digits, country two printable capitals or digits, market year 1800 to 2199,
    attribute three digits, unit two. The product stays below 2^63, and landing refuses codes of any other form.
    """
    return (
        f"((({commodity_code}::BIGINT * 4096"
        f" + (ASCII(SUBSTRING({country_code}, 1, 1)) - 32) * 64"
        f" + ASCII(SUBSTRING({country_code}, 2, 1)) - 32) * 400"
        f" + {market_year}::BIGINT - 1800) * 1000"
        f" + {attribute_id}::BIGINT) * 100"
        f" + {unit_id}::BIGINT"
    )

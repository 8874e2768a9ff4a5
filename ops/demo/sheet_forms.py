"""The forms of balance sheets: which attributes each group of commodities has, in which unit, made of what.

Attribute and unit ids and names are USDA's own, as its PSD Online files and the code lists of its FAS API
give them (see https://apps.fas.usda.gov/psdonline). How a total splits into its parts is made up.
"""

from dataclasses import dataclass

UNITS = {
    "02": "(1000 60 KG BAGS)",
    "04": "(1000 HA)",
    "05": "(1000 HEAD)",
    "07": "(1000 MT CWE)",
    "08": "(1000 MT)",
    "21": "(MT)",
    "23": "(PERCENT)",
    "26": "(MT/HA)",
    "27": "1000 480 lb. Bales",
    "29": "(KG/HA)",
}


@dataclass(frozen=True)
class Attribute:
    """One column of a balance sheet.

    `quantity` names what it is a part of; the part runs from `low` to `high` per mille of it, so that the
    parts of one total always add up. `yield` is production / area * `high`, `rate` is the constant `high`,
    both in hundredths.
    """

    id: str
    name: str
    unit_id: str
    quantity: str
    low: int = 0
    high: int = 1000

    @property
    def in_hundredths(self) -> bool:
        return self.quantity in ("yield", "rate")


@dataclass(frozen=True)
class Group:
    """Commodities that share one form of balance sheet."""

    attributes: tuple[Attribute, ...]
    stocks_permille: int
    """Ending stocks as a share of consumption; 0 for what does not keep."""
    traded_percent: int = 20
    """How much of consumption follows people rather than harvests: what is grown here and eaten there."""


def _sheet(unit_id: str, text: str) -> tuple[Attribute, ...]:
    """Read lines of `id; name; quantity; low; high; unit`, where all after the quantity may be left out."""
    attributes = []
    for line in text.strip().splitlines():
        id_, name, quantity, low, high, unit = (*line.strip().split("; "), "", "", "")[:6]
        attributes.append(Attribute(id_, name, unit or unit_id, quantity, int(low or 0), int(high or 1000)))
    return tuple(sorted(attributes, key=lambda attribute: attribute.name.lower()))


_BALANCE = """
    020; Beginning Stocks; beginning
    028; Production; production
    057; Imports; imports
    086; Total Supply; supply
    088; Exports; exports
    176; Ending Stocks; ending
    178; Total Distribution; supply
"""
_CONSUMED = _BALANCE + "125; Domestic Consumption; consumption\n"
_CROP = _CONSUMED + "004; Area Harvested; area; 0; 1000; 04\n"
_TRADE_YEAR = "081; TY Imports; imports\n 084; TY Imp. from U.S.; imports; 0; 150\n 113; TY Exports; exports\n"
_PROCESSED = "181; Extr. Rate, 999.9999; rate; 0; {rate}; 23\n 007; Crush; production; 0; {crush}\n"

GROUPS = {
    "grain": Group(
        _sheet(
            "08",
            _CROP
            + _TRADE_YEAR
            + """184; Yield; yield; 0; 100; 26
            130; Feed Dom. Consumption; consumption; 0; 580
            192; FSI Consumption; consumption; 580; 1000""",
        ),
        200,
        15,
    ),
    "rice": Group(
        _sheet(
            "08",
            _CROP
            + _TRADE_YEAR
            + """184; Yield; yield; 0; 143; 26
            054; Rough Production; production; 0; 1429
            182; Milling Rate (.9999); rate; 0; 700000""",
        ),
        250,
        12,
    ),
    "oilseed": Group(
        _sheet(
            "08",
            _CROP
            + """184; Yield; yield; 0; 100; 26
            007; Crush; consumption; 0; 840
            149; Food Use Dom. Cons.; consumption; 840; 920
            161; Feed Waste Dom. Cons.; consumption; 920; 1000""",
        ),
        180,
        35,
    ),
    "meal": Group(
        _sheet(
            "08",
            _CONSUMED
            + _PROCESSED.format(rate=79, crush=1266)
            + """140; Industrial Dom. Cons.; consumption; 0; 10
            149; Food Use Dom. Cons.; consumption; 10; 25
            161; Feed Waste Dom. Cons.; consumption; 25; 1000""",
        ),
        60,
        35,
    ),
    "oil": Group(
        _sheet(
            "08",
            _CONSUMED
            + _PROCESSED.format(rate=19, crush=5263)
            + """140; Industrial Dom. Cons.; consumption; 0; 220
            149; Food Use Dom. Cons.; consumption; 220; 990
            161; Feed Waste Dom. Cons.; consumption; 990; 1000""",
        ),
        90,
        40,
    ),
    "cotton": Group(
        _sheet(
            "27",
            _BALANCE
            + """004; Area Harvested; area; 0; 1000; 04
            142; Domestic Use; consumption; 0; 995
            150; Loss; consumption; 995; 1000
            184; Yield; yield; 0; 21772; 29""",
        ),
        450,
        40,
    ),
    "coffee": Group(
        _sheet(
            "02",
            _CONSUMED
            + """029; Arabica Production; production; 0; 560
            053; Robusta Production; production; 560; 1000
            056; Other Production; production; 0; 0
            058; Bean Imports; imports; 0; 870
            075; Roast & Ground Imports; imports; 870; 930
            082; Soluble Imports; imports; 930; 1000
            090; Bean Exports; exports; 0; 850
            107; Roast & Ground Exports; exports; 850; 860
            114; Soluble Exports; exports; 860; 1000
            141; Rst,Ground Dom. Consum; consumption; 0; 860
            154; Soluble Dom. Cons.; consumption; 860; 1000""",
        ),
        150,
        70,
    ),
    "sugar": Group(
        _sheet(
            "08",
            _BALANCE
            + """030; Beet Sugar Production; production; 0; 210
            043; Cane Sugar Production; production; 210; 1000
            064; Raw Imports; imports; 0; 620
            074; Refined Imp.(Raw Val); imports; 620; 1000
            089; Raw Exports; exports; 0; 590
            099; Refined Exp.(Raw Val); exports; 590; 1000
            139; Human Dom. Consumption; consumption; 0; 990
            151; Other Disappearance; consumption; 990; 1000
            174; Total Use; consumption""",
        ),
        250,
        35,
    ),
    "animals": Group(
        _sheet(
            "05",
            _BALANCE
            + """117; Total Slaughter; consumption; 0; 940
            172; Loss and Residual; consumption; 940; 1000""",
        ),
        2500,
    ),
    "meat": Group(_sheet("07", _CONSUMED + "139; Human Dom. Consumption; consumption"), 30),
    "dairy": Group(
        _sheet(
            "08",
            _CONSUMED
            + """139; Human Dom. Consumption; consumption; 0; 970
            151; Other Disappearance; consumption; 970; 1000""",
        ),
        80,
    ),
    "fruit": Group(
        _sheet(
            "08",
            """028; Production; production
            057; Imports; imports
            086; Total Supply; supply
            088; Exports; exports
            132; For Processing; consumption; 0; 230
            133; Fresh Dom. Consumption; consumption; 230; 1000
            178; Total Distribution; supply""",
        ),
        0,
    ),
    "packed": Group(_sheet("21", _CONSUMED), 200),
}

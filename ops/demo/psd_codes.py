"""Codes and rough magnitudes behind the generated releases: commodities and countries.

Codes and names are USDA's own, as its PSD Online files and the code lists of its FAS API give them (see
https://apps.fas.usda.gov/psdonline). World production, shares and populations are rounded to what makes a
balance sheet believable; they are no statistics.
"""

from dataclasses import dataclass

from ops.demo.sheet_forms import GROUPS

NAME_LENGTH = 30
"""USDA cuts names at 30 characters."""


@dataclass(frozen=True)
class Country:
    code: str
    name: str
    population: int
    """In millions, at least 1; for the countries of the past, of the last year."""
    first_year: int = 1960
    last_year: int = 9999
    heirs: tuple[str, ...] = ()
    """Whose shares of production a country of the past had."""


@dataclass(frozen=True)
class Commodity:
    code: str
    name: str
    group: str
    world_production: int
    """In the commodity's own unit, about 2025."""
    yield_hundredths: int
    """Units of production per 100 units of area."""
    countries: int
    """How many countries USDA keeps sheets for, roughly."""
    shares: dict[str, int]
    """Leading producers, per cent of the world's production."""
    undated_through: int = 0
    """Market years up to this one carry Month 00."""


# code; name; group; world production; yield x 100; countries; leading producers in per cent; last Month 00.
# The first lines are the ones that a small history keeps.
_COMMODITIES = """
0440000; Corn; grain; 1250000; 610; 140; US 33, CH 23, BR 11, E4 5, AR 4, IN 3, UP 2, MX 2, SF 1
0711100; Coffee, Green; coffee; 178000; 100; 90; BR 36, VM 17, CO 7, ET 6, ID 6, UG 4, IN 3, HO 3, PE 2; 1997
0410000; Wheat; grain; 800000; 360; 140; E4 16, CH 17, IN 14, RS 10, US 6, CA 5, AS 4, PK 4, UP 3, TU 2, AR 2
2222000; Oilseed, Soybean; oilseed; 425000; 290; 60; BR 41, US 28, AR 12, CH 5, IN 3, PA 2, CA 2
0422110; Rice, Milled; rice; 540000; 325; 130; CH 27, IN 27, BG 7, ID 6, VM 5, TH 4, BM 2, RP 2, PK 2, US 1
2631000; Cotton; cotton; 119000; 380; 85; CH 27, IN 20, BR 15, US 12, AS 4, PK 4, TU 3, UZ 2
0612000; Sugar, Centrifugal; sugar; 186000; 100; 120; BR 24, IN 16, E4 9, TH 6, CH 6, US 5, PK 3, MX 3, AS 2
0430000; Barley; grain; 150000; 320; 88; E4 35, RS 13, AS 8, CA 6, UK 5, TU 5, UP 4, AR 3, US 2
0459200; Sorghum; grain; 62000; 155; 80; US 15, NI 11, BR 8, MX 7, IN 7, SU 7, ET 6, AR 5, CH 5, AS 3
0813100; Meal, Soybean; meal; 275000; 100; 90; CH 29, US 18, BR 15, AR 11, E4 4, IN 3, MX 2
4232000; Oil, Soybean; oil; 66000; 100; 90; CH 28, US 19, BR 16, AR 12, E4 4, IN 3, MX 2
4243000; Oil, Palm; oil; 79000; 100; 85; ID 58, MY 24, TH 4, CO 2, NI 2
0452000; Oats; grain; 24000; 250; 50; E4 32, RS 17, CA 15, AS 7, UK 4, BR 4, US 4
0451000; Rye; grain; 12000; 310; 38; E4 63, RS 14, BO 6, CA 3, TU 2, US 2
0459100; Millet; grain; 30000; 100; 54; IN 42, NG 11, CH 8, NI 6, ML 6, SU 5, ET 3
0459900; Mixed Grain; grain; 14000; 330; 10; E4 88, CA 1, CH 1
2226000; Oilseed, Rapeseed; oilseed; 89000; 205; 40; E4 22, CA 22, CH 17, IN 13, AS 7, RS 5, UP 4, US 2
2224000; Oilseed, Sunflowerseed; oilseed; 54000; 190; 45; RS 31, UP 26, E4 17, AR 8, TU 4, CH 4
2221000; Oilseed, Peanut; oilseed; 51000; 165; 55; CH 37, IN 13, NI 9, US 6, SG 3, SU 3, BM 3, AR 3
2223000; Oilseed, Cottonseed; oilseed; 43000; 135; 60; IN 25, CH 24, BR 14, US 8, PK 5, TU 3
2232000; Oilseed, Palm Kernel; oilseed; 20500; 75; 35; ID 59, MY 22, NI 5, TH 4
2231000; Oilseed, Copra; oilseed; 5700; 60; 25; RP 43, ID 29, IN 13, MX 3, PP 3
0813600; Meal, Rapeseed; meal; 49000; 100; 45; E4 28, CH 21, CA 14, IN 13, RS 4
0813500; Meal, Sunflowerseed; meal; 23000; 100; 45; RS 30, UP 25, E4 21, AR 8, TU 5
0813300; Meal, Cottonseed; meal; 15000; 100; 50; CH 29, IN 28, BR 12, PK 8, US 4
0813200; Meal, Peanut; meal; 7800; 100; 40; CH 51, IN 18, BM 5, NI 4
0813800; Meal, Palm Kernel; meal; 10800; 100; 35; ID 59, MY 23, NI 4, TH 4
0813700; Meal, Copra; meal; 1900; 100; 25; RP 43, ID 29, IN 12
0814200; Meal, Fish; meal; 5000; 100; 55; PE 20, VM 9, E4 8, CI 7, CH 7, TH 6, US 5
4239100; Oil, Rapeseed; oil; 34500; 100; 55; E4 29, CH 21, CA 14, IN 12, RS 5
4236000; Oil, Sunflowerseed; oil; 21500; 100; 60; RS 31, UP 27, E4 17, AR 8, TU 5
4244000; Oil, Palm Kernel; oil; 9000; 100; 45; ID 58, MY 22, NI 4, TH 4
4234000; Oil, Peanut; oil; 6400; 100; 45; CH 50, IN 19, NI 5
4233000; Oil, Cottonseed; oil; 4900; 100; 50; IN 28, CH 27, BR 14, PK 7, US 4
4242000; Oil, Coconut; oil; 3600; 100; 50; RP 43, ID 28, IN 12, MX 4
4235000; Oil, Olive; oil; 3100; 100; 35; E4 63, TU 9, TS 8, SY 4, MO 4
2222001; Oilseed, Soybean (Local); oilseed; 420000; 290; 30; BR 41, US 28, AR 12, CH 5, IN 3
0813101; Meal, Soybean (Local); meal; 270000; 100; 30; CH 29, US 18, BR 15, AR 11
4232001; Oil, Soybean (Local); oil; 64000; 100; 30; CH 28, US 19, BR 16, AR 12
0011000; Animal Numbers, Cattle; animals; 285000; 100; 55; IN 25, BR 17, CH 18, US 12, E4 8, AR 5, AS 3
0013000; Animal Numbers, Swine; animals; 1280000; 100; 40; CH 56, E4 18, US 11, BR 4, RS 4
0111000; Meat, Beef and Veal; meat; 61000; 100; 80; US 20, BR 19, CH 13, E4 11, IN 7, AR 5, AS 4
0113000; Meat, Swine; meat; 116000; 100; 70; CH 49, E4 18, US 11, BR 4, RS 4, VM 3
0115000; Meat, Chicken; meat; 105000; 100; 80; US 20, CH 15, BR 14, E4 11, RS 5, MX 4
0114200; Poultry, Meat, Broiler; meat; 103000; 100; 60; US 20, CH 14, BR 14, E4 11, RS 5, MX 4
0223000; Dairy, Milk, Fluid; dairy; 665000; 100; 40; IN 32, E4 23, US 15, CH 6, BR 4, RS 5, NZ 3
0230000; Dairy, Butter; dairy; 12200; 100; 45; IN 56, E4 17, US 8, NZ 4, RS 3
0240000; Dairy, Cheese; dairy; 22800; 100; 45; E4 47, US 29, RS 5, BR 4, AR 2
0224400; Dairy, Dry Whole Milk Powder; dairy; 4700; 100; 40; NZ 31, CH 22, E4 13, BR 12, AR 6
0224200; Dairy, Milk, Nonfat Dry; dairy; 4500; 100; 45; E4 32, US 23, IN 17, NZ 9, AS 3
0571120; Oranges, Fresh; fruit; 45000; 100; 45; BR 27, CH 17, E4 13, MX 11, EG 8, US 5, SF 4, TU 4
0571220; Tangerines/Mandarins, Fresh; fruit; 39000; 100; 35; CH 70, E4 8, TU 6, MO 3, US 2
0572120; Lemons/Limes, Fresh; fruit; 10500; 100; 30; MX 30, AR 17, E4 15, TU 14, SF 7, US 8
0572220; Grapefruit, Fresh; fruit; 7000; 100; 30; CH 74, MX 7, SF 6, US 5, TU 3
0574000; Apples, Fresh; fruit; 84000; 100; 50; CH 57, E4 14, US 6, TU 6, IR 3, IN 3, RS 2
0575100; Grapes, Fresh Table; fruit; 28500; 100; 45; CH 48, IN 12, TU 7, E4 5, UZ 5, BR 5, CI 3
0579220; Pears, Fresh; fruit; 26000; 100; 45; CH 77, E4 7, US 2, AR 2, TU 2
0579309; Peaches & Nectarines, Fresh; fruit; 25500; 100; 40; CH 69, E4 13, TU 4, US 3
0579305; Cherries (Sweet&Sour), Fresh; fruit; 5100; 100; 40; TU 18, CH 16, E4 14, CI 11, US 7, RS 5
0577400; Almonds, Shelled Basis; packed; 1680000; 100; 30; US 77, AS 9, E4 9, TU 2; 1985
0577901; Walnuts, Inshell Basis; packed; 2750000; 100; 30; CH 53, US 27, CI 6, E4 5, UP 4; 1990
0577907; Pistachios, Inshell Basis; packed; 1150000; 100; 25; US 54, TU 20, IR 18, SY 4; 1990
0585100; Orange Juice; packed; 1550000; 100; 25; BR 68, MX 12, US 7, E4 6, SF 3; 1992
"""

# code; name; population in millions; first and last market year; heirs.
_COUNTRIES = """
AF Afghanistan; 41 | AL Albania; 3 | AG Algeria; 45 | AO Angola; 36 | AR Argentina; 46 | AM Armenia; 3; 1987
AS Australia; 26 | AJ Azerbaijan; 10; 1987 | BG Bangladesh; 171 | BO Belarus; 9; 1987 | DM Benin; 13
BT Bhutan; 1 | BL Bolivia; 12 | BK Bosnia and Herzegovina; 3; 1992 | BC Botswana; 3 | BR Brazil; 215
BU Bulgaria; 7; 1960; 1998 | UV Burkina Faso; 23 | BM Burma; 54 | BY Burundi; 13 | CV Cabo Verde; 1
CB Cambodia; 17 | CM Cameroon; 28 | CA Canada; 39 | CT Central African Republic; 6 | CD Chad; 18
CI Chile; 20 | CH China; 1412 | CO Colombia; 52 | CF Congo (Brazzaville); 6 | CG Congo (Kinshasa); 99
CS Costa Rica; 5 | IV Cote d'Ivoire; 28 | HR Croatia; 4; 1992; 1998 | CU Cuba; 11 | CY Cyprus; 1; 1960; 1998
EZ Czech Republic; 10; 1993; 1998 | DR Dominican Republic; 11 | EC Ecuador; 18 | EG Egypt; 111
ES El Salvador; 6 | ER Eritrea; 4; 1993 | EN Estonia; 1; 1987; 1998 | WZ Eswatini; 1 | ET Ethiopia; 123
E2 EU-15; 375; 1960; 1998; E4 | E4 European Union; 450; 1999 | FJ Fiji; 1
CZ Former Czechoslovakia; 15; 1960; 1992 | YO Former Yugoslavia; 23; 1960; 1991 | GB Gabon; 2
GA Gambia, The; 3 | GG Georgia; 4; 1987 | GH Ghana; 33 | GT Guatemala; 17 | GU Guinea; 14
PU Guinea-Bissau; 2 | GY Guyana; 1 | HA Haiti; 12 | HO Honduras; 10 | HK Hong Kong; 7
HU Hungary; 10; 1960; 1998 | IN India; 1417 | ID Indonesia; 275 | IR Iran; 88 | IZ Iraq; 44 | IS Israel; 9
JM Jamaica; 3 | JA Japan; 125 | JO Jordan; 11 | KZ Kazakhstan; 20; 1987 | KE Kenya; 54
KN Korea, North; 26 | KS Korea, South; 52 | KU Kuwait; 4 | KG Kyrgyzstan; 7; 1987 | LA Laos; 8
LG Latvia; 2; 1987; 1998 | LE Lebanon; 5 | LT Lesotho; 2 | LI Liberia; 5 | LY Libya; 7
LH Lithuania; 3; 1987; 1998 | MA Madagascar; 30 | MI Malawi; 20 | MY Malaysia; 34 | ML Mali; 23
MT Malta; 1; 1960; 1998 | MR Mauritania; 5 | MP Mauritius; 1 | MX Mexico; 128 | MD Moldova; 3; 1987
MO Morocco; 37 | MZ Mozambique; 33 | WA Namibia; 3 | NP Nepal; 31 | NZ New Zealand; 5 | NU Nicaragua; 7
NG Niger; 26 | NI Nigeria; 219 | MK North Macedonia; 2; 1992 | NO Norway; 5 | MU Oman; 5 | PK Pakistan; 236
PN Panama; 4 | PP Papua New Guinea; 10 | PA Paraguay; 7 | PE Peru; 34 | RP Philippines; 116
PL Poland; 38; 1960; 1998 | QA Qatar; 3 | RO Romania; 20; 1960; 1998 | RS Russia; 144; 1987 | RW Rwanda; 14
SA Saudi Arabia; 36 | SG Senegal; 17 | RB Serbia; 7; 2006 | SR Serbia and Montenegro; 10; 1992; 2005
SL Sierra Leone; 9 | SN Singapore; 6 | LO Slovakia; 5; 1993; 1998 | SI Slovenia; 2; 1992; 1998
SO Somalia; 17 | SF South Africa; 60 | OD South Sudan; 11; 2011 | CE Sri Lanka; 22 | SU Sudan; 47
NS Suriname; 1 | SZ Switzerland; 9 | SY Syria; 22 | TW Taiwan; 24 | TI Tajikistan; 10; 1987 | TZ Tanzania; 65
TH Thailand; 72 | TO Togo; 9 | TD Trinidad and Tobago; 2 | TS Tunisia; 12 | TU Turkey; 85
TX Turkmenistan; 6; 1987 | UG Uganda; 47 | UP Ukraine; 38; 1987
UR Union of Soviet Socialist Republics; 285; 1960; 1986; RS UP BO UZ | TC United Arab Emirates; 9
UK United Kingdom; 67; 1999 | US United States; 333 | UY Uruguay; 3 | UZ Uzbekistan; 35; 1987
VE Venezuela; 28 | VM Vietnam; 98 | YM Yemen; 34; 1990 | YE Yemen (Sanaa); 9; 1960; 1989 | ZA Zambia; 20
RH Zimbabwe; 16
"""


def _commodity(line: str) -> Commodity:
    code, name, group, world, yield_, countries, shares, undated = (*line.split("; "), "0")[:8]
    producers = dict(share.split() for share in shares.split(", "))
    return Commodity(
        code,
        name[:NAME_LENGTH],
        group,
        int(world),
        int(yield_),
        int(countries),
        {country: int(share) for country, share in producers.items()},
        int(undated),
    )


def _country(entry: str) -> Country:
    named, population, first, last, heirs = (*entry.split("; "), "", "", "")[:5]
    code, _, name = named.partition(" ")
    return Country(
        code,
        name[:NAME_LENGTH],
        int(population),
        int(first or 1960),
        int(last or 9999),
        tuple(heirs.split()),
    )


COMMODITIES = tuple(_commodity(line) for line in _COMMODITIES.strip().splitlines())
COUNTRIES = tuple(_country(entry.strip()) for line in _COUNTRIES.strip().splitlines() for entry in line.split("|"))

DATASETS = {
    "psd_alldata": tuple(GROUPS),
    "psd_grains_pulses": ("grain", "rice"),
    "psd_oilseeds": ("oilseed", "meal", "oil"),
    "psd_coffee": ("coffee",),
    "psd_cotton": ("cotton",),
    "psd_sugar": ("sugar",),
    "psd_livestock": ("animals", "meat"),
    "psd_dairy": ("dairy",),
}
"""Which groups of commodities a dataset's file holds."""


def commodities_of(dataset: str) -> tuple[Commodity, ...]:
    """The commodities in a dataset's file, most important first; KeyError for an unknown dataset."""
    groups = DATASETS[dataset]
    return tuple(commodity for commodity in COMMODITIES if commodity.group in groups)

"""Small PSD zips, right ones and every kind of wrong one."""

import io
import struct
import zipfile
from collections.abc import Sequence

DATASET = "psd_coffee"
MEMBER = f"{DATASET}.csv"
HEADER = (
    "Commodity_Code,Commodity_Description,Country_Code,Country_Name,Market_Year,Calendar_Year,Month,"
    "Attribute_ID,Attribute_Description,Unit_ID,Unit_Description,Value"
)
INNER_DATE = (2025, 11, 14, 12, 0, 0)


def row(country: str = "BR", value: str = "12.5000", **fields: str) -> str:
    """One line as USDA writes it; `fields` replace single columns, `name` and `country_name` the quoted ones."""
    given = {
        "commodity": "0711100",
        "name": '"Coffee, Green"',
        "country_name": '"Brazil"',
        "market_year": "2025",
        "calendar_year": "2024",
        "month": "06",
        "attribute": "028",
        "attribute_name": '"Production"',
        "unit": "02",
        "unit_name": '"(1000 60 KG BAGS)"',
    } | fields
    return ",".join(
        [
            given["commodity"],
            given["name"],
            country,
            given["country_name"],
            given["market_year"],
            given["calendar_year"],
            given["month"],
            given["attribute"],
            given["attribute_name"],
            given["unit"],
            given["unit_name"],
            value,
        ]
    )


def rows(count: int, value: str = "12.5000") -> list[str]:
    """As many different facts."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [row(letters[n // 26 % 26] + letters[n % 26], value, market_year=str(1960 + n // 676)) for n in range(count)]


def csv(lines: Sequence[str], header: str = HEADER, newline: str = "\r\n") -> bytes:
    return "".join(line + newline for line in (header, *lines)).encode("latin-1")


def zipped(
    content: bytes, member: str = MEMBER, method: int = zipfile.ZIP_DEFLATED, date: tuple[int, ...] = INNER_DATE
) -> bytes:
    return zipped_all([(member, content)], method, date)


def zipped_all(
    members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED, date: tuple[int, ...] = INNER_DATE
) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, date)
            info.compress_type = method
            archive.writestr(info, content)
    return target.getvalue()


def release_zip(lines: Sequence[str] | None = None) -> bytes:
    """A good release."""
    return zipped(csv(lines if lines is not None else rows(40)))


def with_member_field(content: bytes, local_offset: int, central_offset: int, packed: bytes) -> bytes:
    """The zip of one member with a field of its local header and of its directory entry overwritten."""
    spoiled = bytearray(content)
    central = content.rindex(b"PK\x01\x02")
    spoiled[local_offset : local_offset + len(packed)] = packed
    spoiled[central + central_offset : central + central_offset + len(packed)] = packed
    return bytes(spoiled)


def claiming_size(content: bytes, size_bytes: int) -> bytes:
    """The zip of one member, lying about how large that is when unpacked."""
    return with_member_field(content, 22, 24, struct.pack("<I", size_bytes))


def encrypted(content: bytes) -> bytes:
    """The zip of one member, marked as encrypted."""
    return with_member_field(content, 6, 8, struct.pack("<H", 1))

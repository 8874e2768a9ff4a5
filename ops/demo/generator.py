"""Generated releases: a realistic monthly history of a PSD dataset, in USDA's exact format.

The same spec gives the same CSV, byte for byte, on every machine (whole numbers and seeded noise only); the zip is the
same with the same zlib. USDA's rules hold: one row per fact, balanced sheets, and when a fact's value changes, its
sheet's stamp becomes that release's month.
"""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

from dataflows.source.release import Month
from ops.demo.history import HistorySpec, open_books, published_at
from ops.demo.sheet_forms import UNITS, Attribute

if TYPE_CHECKING:
    import numpy as np

    from ops.demo.book import Book

HEADER = (
    b"Commodity_Code,Commodity_Description,Country_Code,Country_Name,Market_Year,Calendar_Year,Month,"
    b"Attribute_ID,Attribute_Description,Unit_ID,Unit_Description,Value\r\n"
)


@dataclass(frozen=True)
class GeneratedRelease:
    """One month's file as the archive posts it."""

    dataset: str
    month: Month
    published_at: datetime
    row_count: int
    zip_bytes: bytes = field(repr=False)
    etag: str

    @property
    def file_name(self) -> str:
        return f"{self.dataset}_csv.zip"

    @property
    def last_modified(self) -> str:
        """The value of the HTTP header."""
        return format_datetime(self.published_at, usegmt=True)


def generate(spec: HistorySpec) -> Iterator[GeneratedRelease]:
    """Yield the releases of a history, oldest first, each generated on demand.

    Needs memory for one release's text (190 bytes per row). Raises SettingsError if the dataset has too few realistic
    sheets for `spec.rows`.
    """
    books = open_books(spec)
    texts = [[b""] * book.present.size for book in books]
    for number, month in enumerate(spec.months):
        before = [book.copy() for book in books]
        if number > 0:
            _advance(books, spec, number, month)
        for book, old, text in zip(books, before, texts, strict=True):
            _render(book, book.present if number == 0 else _changed_sheets(old, book), text)
        yield _pack(spec, month, sum(book.row_count for book in books), texts)


def _advance(books: "list[Book]", spec: HistorySpec, number: int, month: Month) -> None:
    """Apply one month's changes to the books, in an order that keeps each change visible."""
    from ops.demo.revisions import (
        NEW_YEAR_MONTH,
        drop_sheet,
        open_market_year,
        rekey,
        revise,
        take_up_country,
    )

    rekeyed = _rekeyed_book(books, spec) if number == spec.rekey_in else None
    if rekeyed:
        rekey(rekeyed, month)
    others = [book for book in books if book is not rekeyed]
    for book in others:
        revise(book, spec.seed, month)
        if month.month == NEW_YEAR_MONTH:
            open_market_year(book, month)
    turn = number % max(len(others), 1)
    rotated = others[turn:] + others[:turn]
    if spec.new_country_every and number % spec.new_country_every == 0:
        any(take_up_country(book, month) for book in rotated)
    if spec.vanish_every and number % spec.vanish_every == 0 and rotated:
        drop_sheet(rotated[-1], spec.seed, month)


def _rekeyed_book(books: "list[Book]", spec: HistorySpec) -> "Book":
    for book in books:
        if book.commodity.code == spec.rekey_commodity:
            return book
    return min(books, key=lambda book: book.row_count)


def _changed_sheets(before: "Book", after: "Book") -> "np.ndarray":
    """The sheets that appear, vanish or carry another stamp."""
    return (before.present != after.present) | (after.present & (before.stamp != after.stamp))


def _render(book: "Book", sheets: "np.ndarray", texts: list[bytes]) -> None:
    """Render the given sheets: one text per sheet with a CRLF-terminated line per attribute, or nothing."""
    import numpy as np

    lines = [_line(attribute) for attribute in book.attributes]
    digits = _digits(book, sheets)
    places = np.flatnonzero(sheets).tolist()
    present, stamps = book.present[sheets].tolist(), book.stamp[sheets].tolist()
    heads = [f'{book.commodity.code},"{book.commodity.name}",{c.code},"{c.name}"' for c in book.countries]
    width = book.present.shape[1]
    for place, is_present, stamp, row in zip(places, present, stamps, digits, strict=True):
        country, year = divmod(place, width)
        head = f"{heads[country]},{book.first_year + year},{stamp // 100},{stamp % 100:02d},"
        text = (head + head.join(lines)) % tuple(row)
        texts[place] = text.encode("ascii") if is_present else b""


def _line(attribute: Attribute) -> str:
    value = "%d.%02d00" if attribute.in_hundredths else "%d.0000"
    unit = UNITS[attribute.unit_id]
    return f'{attribute.id},"{attribute.name}",{attribute.unit_id},"{unit}",{value}\r\n'


def _digits(book: "Book", sheets: "np.ndarray") -> list[list[int]]:
    """The numbers in the lines of each sheet: one per attribute, two if it is in hundredths."""
    import numpy as np

    values = book.values(sheets)
    columns = []
    for attribute, column in zip(book.attributes, values.T, strict=True):
        columns += [column // 100, column % 100] if attribute.in_hundredths else [column]
    return np.stack(columns, axis=1).tolist()


def _pack(spec: HistorySpec, month: Month, row_count: int, texts: list[list[bytes]]) -> GeneratedRelease:
    posted = published_at(month, spec.seed)
    member = zipfile.ZipInfo(f"{spec.dataset}.csv", (posted.year, posted.month, posted.day, 12, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 0  # MS-DOS, as USDA's; else the platform would show in the bytes
    csv = b"".join([HEADER, *(text for book_texts in texts for text in book_texts)])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, csv, compresslevel=spec.compress_level)
    return GeneratedRelease(
        dataset=spec.dataset,
        month=month,
        published_at=posted,
        row_count=row_count,
        zip_bytes=buffer.getvalue(),
        etag=f'"{member.CRC:08x}{len(csv):x}:0"',
    )

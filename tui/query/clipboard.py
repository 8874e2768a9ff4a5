"""Turns the rows of a result into text for the clipboard."""

import csv
import io
from typing import TYPE_CHECKING

from ops.query.values import values_of

if TYPE_CHECKING:
    from tui.query.spill import Spill

CLIPBOARD_ROWS = 10_000
CLIPBOARD_BYTES = 512 * 1024
"""Terminals drop longer OSC 52 sequences."""


def as_text(spill: "Spill", most_rows: int = CLIPBOARD_ROWS) -> tuple[str, int]:
    """Return the first rows as tab-separated text with a header, and their number."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(spill.schema.names)
    rows = 0
    for batch in spill.batches():
        for row in zip(*(values_of(column) for column in batch.columns), strict=True):
            if rows == most_rows or text.tell() > CLIPBOARD_BYTES:
                return text.getvalue(), rows
            writer.writerow(row)
            rows += 1
    return text.getvalue(), rows

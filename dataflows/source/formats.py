"""What a source's files have of their own on the way from an address to rows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataflows.source import psd_zip
from dataflows.source.psd_zip import Contents


@dataclass(frozen=True)
class Format:
    """A kind of files in the landing."""

    prefix: str
    """The folder of the landing, and the prefix in the bucket, of its zips and markers."""
    unpack: Callable[[Path, str, Path], Contents]
    """Verifies a zip's member and writes its rows as Parquet."""


def _unpack_report(zip_path: Path, member: str, rows_path: Path) -> Contents:
    from dataflows.source.wasde import packed

    return packed.unpack(zip_path, member, rows_path)


PSD: Final = Format("psd", psd_zip.unpack)
WASDE: Final = Format("wasde", _unpack_report)
FORMATS: Final = (PSD, WASDE)

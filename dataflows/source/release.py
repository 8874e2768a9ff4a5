"""A release: a file of a dataset that USDA posts, in the archive or as the current file."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Self

from dataflows.errors import SettingsError

USER_AGENT = "materia (USDA PSD client)"
"""What every request to USDA carries unless `PSD_USER_AGENT` is set."""

CANDIDATE_MONTHS = 4
"""The number of months that a probe covers: the month itself and the three before it."""


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month, written `YYYY-MM`."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `YYYY-MM`; raises SettingsError on anything else."""
        year, dash, month = text.partition("-")
        digits = year.isascii() and year.isdigit() and month.isascii() and month.isdigit()
        if not (dash and digits and len(year) == 4 and len(month) == 2 and int(year) >= 1 and 1 <= int(month) <= 12):
            raise SettingsError(f"{text!r} is not a month; write it as YYYY-MM, for example 2025-11")
        return cls(int(year), int(month))

    @classmethod
    def of(cls, day: date) -> Self:
        return cls(day.year, day.month)

    def back(self, months: int) -> "Month":
        """The month `months` before this one (after it if negative)."""
        year, month0 = divmod(self.year * 12 + self.month - 1 - months, 12)
        return Month(year, month0 + 1)

    def through(self, last: "Month") -> Iterator["Month"]:
        """Every month from this one to `last`, both included."""
        month = self
        while month <= last:
            yield month
            month = month.back(-1)

    def first_day(self) -> date:
        return date(self.year, self.month, 1)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


@dataclass(frozen=True)
class Release:
    """One file of one dataset that may be posted: a month's in the archive, or the current one."""

    dataset: str
    month: Month | None
    """The month of the archive's address; None for the current file, whose address names none."""
    url: str

    @property
    def name(self) -> str:
        return str(self.month) if self.month else "current file"

    @property
    def member(self) -> str:
        """The name of the CSV inside the zip."""
        return f"{self.dataset}.csv"


def release_of(archive_url: str, dataset: str, month: Month) -> Release:
    """The release at USDA's archive layout: `{archive_url}/{year}/{month:02d}/{dataset}_csv.zip`."""
    url = f"{archive_url.rstrip('/')}/{month.year}/{month.month:02d}/{dataset}_csv.zip"
    return Release(dataset=dataset, month=month, url=url)


def current_release(live_url: str, dataset: str) -> Release:
    """The file that USDA updates between releases; `{dataset}` in its address is replaced."""
    return Release(dataset=dataset, month=None, url=live_url.replace("{dataset}", dataset))


def candidate_releases(archive_url: str, dataset: str, newest: Month) -> tuple[Release, ...]:
    """The releases to probe, newest first: `newest` and the three months before it."""
    return tuple(release_of(archive_url, dataset, newest.back(n)) for n in range(CANDIDATE_MONTHS))

"""Generated WASDE reports in the layouts of USDA's XML and CSV, with figures that balance and that tests can set."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from dataflows.source.release import Month
from dataflows.source.wasde.csv import HEADER
from dataflows.source.wasde.report import MONTHS

LABELS = {
    "020": "Beginning\r\nStocks",
    "028": "Production",
    "057": "Imports",
    "130": "Domestic\r\nFeed",
    "007": "Domestic\r\nCrush",
    "125": "Domestic\r\nTotal 2/",
    "142": "Domestic\r\nUse",
    "088": "Exports",
    "150": "Loss\r\n  /2  ",
    "176": "Ending\r\nStocks",
}
GRAIN = ("020", "028", "057", "130", "125", "088", "176")
TABLES = {
    "World Wheat Supply and Use": GRAIN,
    "World Coarse Grain Supply and Use": GRAIN,
    "World Corn Supply and Use": GRAIN,
    "World Rice Supply and Use  (Milled Basis)": ("020", "028", "057", "125", "088", "176"),
    "World Cotton Supply and Use": ("020", "028", "057", "142", "088", "150", "176"),
    "World Soybean Supply and Use": ("020", "028", "057", "007", "125", "088", "176"),
    "World Soybean Meal Supply and Use": ("020", "028", "057", "125", "088", "176"),
    "World Soybean Oil Supply and Use": ("020", "028", "057", "125", "088", "176"),
}
REGIONS = ("World  3/", "    World Less China", "United States", "    Major Exporters  4/", "        Brazil")
HEADING = "    Selected Other"
"""A line without figures but for one zero, as in the real reports."""
BASE = {"020": 50, "028": 100, "057": 20, "130": 40, "007": 30, "125": 95, "142": 95, "088": 20, "150": 1, "176": 55}
FULL_NAMES = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)


@dataclass(frozen=True)
class Printed:
    """A report to print: its month, and figures that differ from the generated ones."""

    month: Month
    figures: Mapping[tuple[str, str, int, str], str] = field(default_factory=dict)
    """By the start of the title, the region, the market year and the attribute."""
    regions: tuple[str, ...] = REGIONS

    @property
    def years(self) -> tuple[int, ...]:
        first = self.month.year - (2 if self.month.month >= 5 else 3)
        return first, first + 1, first + 2

    def value(self, title: str, region: str, year: int, attribute: str) -> str:
        name = " ".join(region.split()).rstrip("0123456789/ ")
        if region == HEADING:
            return "0.00" if attribute == "176" else ""
        for (start, where, when, what), text in self.figures.items():
            if title.startswith(start) and (where, when, what) == (name, year, attribute):
                return text
        scale = 10 if name.startswith("World") else 1
        return f"{(BASE[attribute] + (year - self.years[0]) * (attribute in ('028', '125', '142'))) * scale:.2f}"

    def xml(self) -> str:
        """The report as USDA's XML: two market years side by side, the third on a page of its own with two months."""
        pages = [
            self._page(8, "World and U.S Supply and Use for Grains  1/", '<matrix1 commodity_header1="World" />'),
            self._page(11, "U.S. Wheat Supply and Use  1/", '<matrix1><a attribute1="Yield" /></matrix1>'),
        ]
        for number, title in enumerate(TABLES, 18):
            first, second, third = self.years
            matrices = self._matrix(1, title, first, "") + self._matrix(2, title, second, " Est.")
            pages.append(self._page(number * 2, f"{title}  1/", matrices, unit_of(title)))
            last = self._matrix(1, title, third, " Proj.")
            pages.append(self._page(number * 2 + 1, f"{title}  1/  (Cont'd.)", last, unit_of(title)))
        name = FULL_NAMES[self.month.month - 1]
        pages.append(self._page(99, f"Reliability of {name} Projections 1/", '<table1 sub_report_footer="Note" />'))
        return f'\ufeff<?xml version="1.0" encoding="utf-8"?><Report Name="wasde">{"".join(pages)}</Report>'

    def csv(self) -> str:
        """The report as `oce-wasde-report-data-YYYY-MM.csv`."""
        text = io.StringIO(newline="")
        lines = csv.writer(text)
        lines.writerow(HEADER)
        name = f"{FULL_NAMES[self.month.month - 1]} {self.month.year}"
        end = (f"{self.month}-12", "12:00:00.0000000", self.month.year, self.month.month)
        lines.writerow((616, name, "U.S. Egg Supply and Use", "Production", "", "Eggs", "", 2020, "", "", 1, "", *end))
        for title, region, year, attribute in self.cells():
            label = " ".join(LABELS[attribute].replace("2/", "").replace("/2", "").split())
            where = " ".join(region.split()).rstrip("0123456789/ ")
            unit = unit_of(title).replace("480-Pound", "480 Pound")
            value = self.value(title, region, year, attribute)
            market_year = f"{year}/{(year + 1) % 100:02d}"
            title = " ".join(title.split())
            lines.writerow((616, name, title, label, "", "", where, market_year, "", "Annual", value, unit, *end))
        return text.getvalue()

    def cells(self) -> Iterator[tuple[str, str, int, str]]:
        for title, columns in TABLES.items():
            for region in self.regions:
                for year in self.years:
                    for attribute in columns:
                        yield title, region, year, attribute

    def _page(self, number: int, title: str, matrices: str, unit: str = "") -> str:
        name = f"{FULL_NAMES[self.month.month - 1]} {self.month.year}"
        return (
            f'<sr{number:02d}><Report Name="sr{number:02d}" Report_Month="{name}" page_title=" WASDE - 616 - {number}"'
            f' sub_report_title={quoteattr(title)} sub_report_subtitle="({unit})">{matrices}</Report></sr{number:02d}>'
        )

    def _matrix(self, number: int, title: str, year: int, flag: str) -> str:
        header = f"{year}/{(year + 1) % 100:02d}{flag}"
        rows = "".join(self._row(number, title, region, year, flag) for region in (*self.regions, HEADING))
        return f'<matrix{number} region_header{number}="{header}">{rows}</matrix{number}>'

    def _row(self, number: int, title: str, region: str, year: int, flag: str) -> str:
        months = (self.month.back(1), self.month) if "Proj" in flag else (None,)
        groups = "".join(self._columns(number, title, region, year, month) for month in months)
        return f"<m1_region_group region{number}={quoteattr(region)}>{groups}</m1_region_group>"

    def _columns(self, number: int, title: str, region: str, year: int, month: Month | None) -> str:
        cells = ""
        for attribute in TABLES[title]:
            value = "0.01" if month == self.month.back(1) else self.value(title, region, year, attribute)
            label = quoteattr(LABELS[attribute]).replace("&#13;", "&#xD;").replace("&#10;", "&#xA;")
            cells += f'<g attribute{number}={label}><FormatFiller2><Cell cell_value{number}="{value}" />'
            cells += "</FormatFiller2></g>"
        if month is None:
            return cells
        return f'<m1_month_group forecast_month{number}="{MONTHS[month.month - 1]}">{cells}</m1_month_group>'


def unit_of(title: str) -> str:
    return "Million 480-Pound Bales" if "Cotton" in title else "Million Metric Tons"

"""The result of a measurement: a figure, its bar and a verdict."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One figure with its bar; `note` lists the inputs with units."""

    what: str
    figure: float
    unit: str
    bar: float
    note: str = ""
    at_least: bool = False
    """Whether the bar is a floor; otherwise it is a ceiling."""

    @property
    def met(self) -> bool:
        return self.figure >= self.bar if self.at_least else self.figure <= self.bar


def as_table(rows: Iterable[Row]) -> str:
    """The rows for a person."""
    lines = [("what", "figure", "bar", "verdict", "inputs")]
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        verdict = "met" if row.met else "MISSED"
        lines.append((row.what, f"{row.figure:.2f} {row.unit}", f"{sign} {row.bar:g} {row.unit}", verdict, row.note))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (1, 2) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_json(rows: Iterable[Row]) -> str:
    """The rows for a program."""
    return json.dumps([asdict(row) | {"met": row.met} for row in rows], indent=2)

"""Files that a query's rows are written to."""

import csv
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from pyarrow import parquet

from dataflows.errors import ExportError
from ops.query import export
from ops.query.export import FORMATS, Written, write_file

ROWS = pa.table(
    {
        "commodity_code": ["0440000", None, '=1+1, "x"', "https://example.org"],
        "value": [1.5, -7.0, None, float("nan")],
        "countries": pa.array([59, 10**17, 0, None], pa.int64()),
        "exact": pa.array([Decimal("1.25"), None, Decimal("-3.00"), Decimal("0")], pa.decimal128(18, 2)),
        "is_complete": [True, False, None, True],
        "released_on": [date(2025, 11, 14), date(1899, 1, 1), None, date(1900, 3, 1)],
        "published_at": pa.array([datetime(2025, 11, 14, 11, 37), None, None, None], pa.timestamp("us")),
        "list": [[1, 2], None, [], [3]],
    }
)


def written(path: Path, table: pa.Table = ROWS, *, overwrite: bool = False) -> Written:
    return write_file(table.schema, table.to_batches(max_chunksize=3), path, overwrite=overwrite)


def xlsx_rows(path: Path) -> list[dict[str, tuple[str, str]]]:
    """The cells of each row: column letter to (kind, text); read from the file's XML, without a library."""
    space = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    with zipfile.ZipFile(path) as book:
        sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    return [
        {
            cell.get("r").rstrip("0123456789"): (cell.get("t", "n"), "".join(cell.itertext()))
            for cell in row.findall("x:c", space)
        }
        for row in sheet.iterfind(".//x:row", space)
    ]


def test_a_csv_file_keeps_codes_nulls_and_numbers(tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    assert written(target) == Written(target, 4, target.stat().st_size)
    lines = list(csv.reader(target.open()))
    assert lines[0] == ROWS.column_names
    assert lines[1] == ["0440000", "1.5", "59", "1.25", "true", "2025-11-14", "2025-11-14 11:37:00.000000", "[1, 2]"]
    assert lines[2][:3] == ["", "-7", "100000000000000000"] and lines[3][0] == '=1+1, "x"'


def test_a_parquet_file_is_the_same_table(tmp_path: Path) -> None:
    written(tmp_path / "rows.parquet")
    read = parquet.read_table(tmp_path / "rows.parquet")
    assert read.schema == ROWS.schema and read.drop_columns("value") == ROWS.drop_columns("value")
    assert str(read["value"].to_pylist()) == str(ROWS["value"].to_pylist())  # NaN is not equal to itself


def test_a_workbook_has_numbers_and_days_where_excel_has_them_and_else_text(tmp_path: Path) -> None:
    assert written(tmp_path / "rows.xlsx").rows == 4
    head, first, second, third, fourth = xlsx_rows(tmp_path / "rows.xlsx")
    assert [text for _, text in head.values()] == ROWS.column_names
    assert first == {
        "A": ("inlineStr", "0440000"),
        "B": ("n", "1.5"),
        "C": ("n", "59"),
        "D": ("n", "1.25"),
        "E": ("b", "1"),
        "F": ("n", "45975"),  # days since 1899-12-30
        "G": ("n", f"{45975 + (11 + 37 / 60) / 24:.16G}"),
        "H": ("inlineStr", "[1, 2]"),
    }
    assert second["C"] == ("inlineStr", "100000000000000000") and second["F"] == ("inlineStr", "1899-01-01")
    assert "A" not in second and third["A"] == ("inlineStr", '=1+1, "x"')
    assert fourth["A"] == ("inlineStr", "https://example.org") and fourth["B"] == ("inlineStr", "nan")
    assert fourth["F"] == ("n", "61")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.xlsx"]


@pytest.mark.parametrize("ending", FORMATS)
def test_no_rows_are_a_file_with_the_columns(tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"empty.{ending}"
    assert written(target, ROWS.slice(0, 0)).rows == 0
    read: dict[str, Callable[[], list[str]]] = {
        "csv": lambda: next(csv.reader(target.open())),
        "parquet": lambda: parquet.read_schema(target).names,
        "xlsx": lambda: [text for _, text in xlsx_rows(target)[0].values()],
    }
    assert read[ending]() == ROWS.column_names


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pa.table({"n": pa.array(range(6), pa.int8())}), "more than 4 rows"),
        (pa.table({f"c{number}": [1] for number in range(4)}), "4 columns"),
        (pa.table({"note": ["x" * 32_767, "x" * 32_768]}), "row 2, column note"),
    ],
)
def test_a_result_that_a_worksheet_cannot_hold_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: pa.Table, reason: str
) -> None:
    monkeypatch.setattr(export, "XLSX_MAX_ROWS", 5)
    monkeypatch.setattr(export, "XLSX_MAX_COLUMNS", 3)
    with pytest.raises(ExportError, match=reason):
        written(tmp_path / "out.xlsx", table)
    assert not list(tmp_path.iterdir())
    assert written(tmp_path / "out.csv", table).rows == table.num_rows


def test_the_limits_of_a_worksheet_are_those_of_excel() -> None:
    assert (export.XLSX_MAX_ROWS, export.XLSX_MAX_COLUMNS) == (2**20, 2**14)


def test_a_full_worksheet_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "XLSX_MAX_ROWS", 5)
    assert written(tmp_path / "full.xlsx").rows == 4 and len(xlsx_rows(tmp_path / "full.xlsx")) == 5


def test_an_export_to_another_extension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"unsupported file extension: .*; use \.csv, \.parquet, \.xlsx"):
        written(tmp_path / "rows.txt")


@pytest.mark.parametrize("name", ["a.csv/out.csv", "no-such/out.csv", f"{'x' * 300}.csv"])
def test_an_export_to_where_no_file_can_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(ExportError, match="cannot write"):
        written(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_export_to_the_home_of_an_unknown_user_is_refused() -> None:
    with pytest.raises(ExportError, match="cannot write"):
        written(Path("~no-such-person/out.csv"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_export_of_what_the_file_cannot_hold_is_refused(tmp_path: Path, ending: str) -> None:
    kind = pa.month_day_nano_interval()
    with pytest.raises(ExportError, match="cannot write"):
        written(tmp_path / f"out.{ending}", pa.table({"since": pa.array([(1, 2, 3)], kind)}))
    assert not list(tmp_path.iterdir())


def test_a_file_that_exists_stays_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    target.write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        written(target)
    assert target.read_text() == "mine"
    assert written(target, overwrite=True).rows == 4 and target.read_text().startswith('"commodity_code"')


def test_a_failure_midway_leaves_the_old_file(tmp_path: Path) -> None:
    def broken_off() -> object:
        yield from ROWS.to_batches()
        raise OSError("the connection was lost")

    for ending in FORMATS:
        target = tmp_path / f"rows.{ending}"
        target.write_text("mine")
        with pytest.raises(ExportError, match="the connection was lost"):
            write_file(ROWS.schema, broken_off(), target, overwrite=True)
        assert target.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3

"""WASDE reports: the figures of both forms, and what is refused."""

import csv
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pytest

from dataflows.errors import ReportError
from dataflows.source.release import Month
from dataflows.source.wasde import packed
from dataflows.source.wasde.packed import parse
from dataflows.source.wasde.report import Report, released_at, unmapped_regions
from tests.support.real_files import SHARED_PSD, required
from tests.support.wasde_reports import TABLES, Printed

SEPTEMBER = Month(2021, 9)


def of(printed: Printed, change: Callable[[str], str] = lambda text: text) -> Report:
    return parse(change(printed.xml()).encode(), "wasde0921.xml")


def refusal(change: Callable[[str], str], printed: Printed | None = None) -> str:
    xml = (printed or Printed(SEPTEMBER)).xml()
    changed = change(xml)
    assert changed != xml
    with pytest.raises(ReportError) as caught:
        parse(changed.encode(), "wasde0921.xml")
    return str(caught.value)


def test_both_forms_of_a_report_hold_the_same_figures() -> None:
    printed = Printed(SEPTEMBER, {("World Corn", "Brazil", 2020, "028"): "1,086.00"})
    xml, table = of(printed), parse(printed.csv().encode(), "oce-wasde-report-data-2021-09.csv")
    assert set(xml.figures) == set(table.figures)
    assert len(xml.figures) == len(set(printed.cells()))
    assert (xml.month, xml.released_on, table.released_on) == (SEPTEMBER, None, date(2021, 9, 12))
    values = {(each.title, each.region, each.market_year, each.attribute): each.value for each in xml.figures}
    assert values["World Corn Supply and Use", "Brazil", 2020, "028"] == "1086.00"
    assert values["World Wheat Supply and Use", "World", 2019, "176"] == "550.00"


def test_the_figures_of_the_month_before_are_left_out() -> None:
    assert "0.01" not in {each.value for each in of(Printed(SEPTEMBER)).figures}


def test_a_heading_is_no_region() -> None:
    assert "Selected Other" not in {each.region for each in of(Printed(SEPTEMBER)).figures}


def test_a_footnote_in_place_of_a_figure_is_zero_and_NA_is_no_figure() -> None:
    figures = {("World Cotton", "Brazil", 2021, "057"): "3/"}
    (imports,) = (
        each
        for each in of(Printed(SEPTEMBER, figures)).figures
        if "Cotton" in each.title and (each.region, each.market_year, each.attribute) == ("Brazil", 2021, "057")
    )
    assert imports.value == "0"


def test_the_older_layout_with_a_namespace_is_read() -> None:
    old = of(
        Printed(SEPTEMBER), lambda xml: xml.replace('<Report Name="wasde">', '<Report name="wasde" xmlns="wasde">')
    )
    assert old.figures == of(Printed(SEPTEMBER)).figures


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("<Report Name", "<!DOCTYPE Report><Report Name", "DOCTYPE or declares entities"),
        (
            "<Report Name",
            '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Report Name',
            "DOCTYPE or declares entities",
        ),
        ("World Corn Supply", "World Sugar Supply", "unknown table 'World Sugar Supply and Use'"),
        ("Domestic&#xD;&#xA;Feed", "Domestic&#xD;&#xA;Seed", "unknown column 'Domestic Seed' in 'World Wheat"),
        ("Million 480-Pound Bales", "Million Metric Tons", "'World Cotton Supply and Use' is in"),
        ("2020/21 Est.", "2020/22 Est.", "'2020/22 Est.' is no market year"),
        ("2020/21 Est.", "2018/19 Est.", "not three in a row"),
        ('cell_value1="1000.00"', 'cell_value1="1000,00"', "'1000,00' is no figure"),
        ('cell_value1="1000.00"', 'cell_value1="1100.00"', "does not balance, by 100.00"),
        ("September 2021", "October 2021", "of 2 months"),
        ("</Report></sr99></Report>", "</Report></sr99>", "damaged XML"),
    ],
)
def test_a_report_that_is_not_as_usda_prints_it_is_refused_by_name(before: str, after: str, why: str) -> None:
    message = refusal(lambda xml: xml.replace(before, after, 1))
    assert why in message
    assert message.endswith("(wasde0921.xml); no report was landed")


def test_columns_that_changed_places_are_refused() -> None:
    def swap(xml: str) -> str:
        return xml.replace('"Imports"', '"?"', 1).replace('"Exports"', '"Imports"', 1).replace('"?"', '"Exports"', 1)

    assert "moved column: 'Exports' in World Wheat Supply and Use, World, 2019" in refusal(swap)


def test_a_row_that_lacks_a_column_is_refused() -> None:
    lacking = {("World Rice", "Brazil", 2020, "088"): "NA"}
    assert "has no 088 for Brazil 2020" in refusal(lambda xml: xml + " ", Printed(SEPTEMBER, lacking))


def test_a_missing_table_is_refused() -> None:
    assert "the table 'World Soybean Oil Supply and Use' is missing" in refusal(
        lambda xml: xml.replace("World Soybean Oil Supply", "U.S. Soybean Oil Supply")
    )


def test_deep_nesting_and_a_long_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nested more than 64 deep" in refusal(lambda xml: xml.replace("<sr08>", "<a>" * 65, 1))
    monkeypatch.setattr(packed, "MAX_REPORT_BYTES", 1 << 10)
    assert "more than 0 MiB" in refusal(lambda xml: xml + " ")


@pytest.mark.parametrize("data", [b"", b"<html><body>apology</body></html>", b"\x00\x01", b"PK\x03\x04", b'a,"b'])
def test_a_file_that_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(ReportError, match="no report was landed"):
        parse(data, "page.html")


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("Value,Unit,", "Unit,Value,", "moved column: row 1"),
        ("World Corn Supply and Use", "World Sugar Supply and Use", "unknown table"),
        ("Domestic Feed", "Domestic Seed", "unknown column"),
        ("Million 480 Pound Bales", "Million Metric Tons", "'World Cotton Supply and Use' is in"),
        ("2021-09-12", "2021-09-13", "holds 2 reports"),
        (",Annual,", ",", "moved column: row 3 has 15 fields"),
    ],
)
def test_a_csv_that_is_not_as_usda_writes_it_is_refused(before: str, after: str, why: str) -> None:
    text = Printed(SEPTEMBER).csv()
    with pytest.raises(ReportError, match=why):
        parse(text.replace(before, after, 1).encode(), "oce.csv")


def test_a_report_is_dated_by_usdas_calendar_and_beyond_it_by_the_report_or_the_server() -> None:
    listed, later = of(Printed(SEPTEMBER)), of(Printed(Month(2027, 3)))
    assert released_at(listed, "wasde0921.xml") == datetime(2021, 9, 10, 12)
    assert released_at(listed, "wasde0921v2.xml") == datetime(2021, 9, 10, 12, 1)
    twice = of(Printed(Month(2018, 12)))
    assert released_at(twice, "wasde1218.xml") < released_at(twice, "wasde1218v2.xml")
    assert released_at(later, "wasde0327.xml") == datetime(2027, 3, 12, 12)
    assert released_at(later, "wasde0327.xml", date(2027, 3, 9)) == datetime(2027, 3, 9, 12)
    with pytest.raises(ReportError, match="no report in 2019-01"):
        released_at(of(Printed(Month(2019, 1))), "wasde0119.xml")


def test_capitals_of_a_region_do_not_matter() -> None:
    other = of(Printed(SEPTEMBER), lambda xml: xml.replace("Major Exporters", "Major exporters", 3))
    assert other.figures == of(Printed(SEPTEMBER)).figures


def test_regions_without_a_code_are_named() -> None:
    assert unmapped_regions(of(Printed(SEPTEMBER))) == ()
    assert unmapped_regions(of(Printed(SEPTEMBER, regions=("World", "Atlantis")))) == ("Atlantis",)


def test_a_packed_report_depends_on_its_bytes_only_and_unpacks_to_its_figures(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    for name in ("one", "two"):
        packed.pack(Printed(SEPTEMBER).xml().encode(), "wasde0921.xml", tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    contents = packed.unpack(tmp_path / "one", "wasde0921.xml", tmp_path / "rows.parquet")
    rows = pq.read_table(tmp_path / "rows.parquet")
    assert contents.row_count == rows.num_rows == len(of(Printed(SEPTEMBER)).figures)
    assert rows.column_names == ["title", "region", "market_year", "attribute_id", "unit", "value"]
    (tmp_path / "one").write_bytes((tmp_path / "two").read_bytes()[:-50])
    with pytest.raises(ReportError, match="is damaged"):
        packed.unpack(tmp_path / "one", "wasde0921.xml", tmp_path / "rows.parquet")


ATTRIBUTES = {
    "beginning_stocks": "020",
    "production": "028",
    "imports": "057",
    "feed": "130",
    "domestic_total": "125",
    "exports": "088",
    "ending_stocks": "176",
}


def test_six_real_reports_hold_the_figures_that_others_read_from_them() -> None:
    expected = {}
    with required(SHARED_PSD / "wasde_grains_2021-08_2022-03.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            key = row["report_date"], f"World {row['commodity'].title()} Supply and Use", row["region"]
            for column, attribute in ATTRIBUTES.items():
                if row[column]:
                    expected[(*key, int(row["market_year"]), attribute)] = float(row[column])
    read = {}
    with zipfile.ZipFile(required(SHARED_PSD / "wasde_xml_2021-09_2022-02.zip")) as archive:
        for name in archive.namelist():
            report = parse(archive.read(name), name)
            assert {each.title for each in report.figures} == {" ".join(title.split()) for title in TABLES}
            assert unmapped_regions(report) == ()
            day = str(released_at(report, name).date())
            for each in report.figures:
                if each.title in ("World Wheat Supply and Use", "World Corn Supply and Use"):
                    read[day, each.title, each.region, each.market_year, each.attribute] = float(each.value)
    days = {key[0] for key in read}
    assert len(days) == 6
    shared = {key: value for key, value in expected.items() if key[0] in days and key[2] != "Selected Other"}
    assert read == shared
    assert len(read) == 6 * 882


def test_a_report_with_any_damaged_byte_in_its_zip_is_refused_or_unchanged(tmp_path: Path) -> None:
    zip_path, data = tmp_path / "report.zip", Printed(Month(2021, 9)).xml().encode()[:300]
    packed.pack(data, "wasde.xml", zip_path)
    whole, refused = zip_path.read_bytes(), 0
    for position in range(len(whole)):
        for changed in (whole[position] ^ 0xFF, whole[position] ^ 0x01):
            zip_path.write_bytes(whole[:position] + bytes([changed]) + whole[position + 1 :])
            try:
                assert packed.unpacked(zip_path)[1] == data
            except ReportError:
                refused += 1
    for length in range(len(whole)):
        zip_path.write_bytes(whole[:length])
        with pytest.raises(ReportError):
            packed.unpacked(zip_path)
    assert refused > len(whole)


@pytest.mark.parametrize("count", [0, 2])
def test_a_packed_report_is_one_file(count: int, tmp_path: Path) -> None:
    zip_path = tmp_path / "report.zip"
    with zipfile.ZipFile(zip_path, "w") as archive:
        for number in range(count):
            archive.writestr(f"wasde-{number}.xml", "<x/>")
    with pytest.raises(ReportError, match=f"contains {count} files, not 1"):
        packed.unpacked(zip_path)

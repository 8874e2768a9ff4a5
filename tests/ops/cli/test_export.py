"""`materia export`."""

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest
from pyarrow import parquet

from ops.host.exits import Exit
from tests.support.command_line import MATERIA, materia
from tests.support.served_demo import ServedDemo

DAY = "SELECT * FROM serving.psd_asof(current_date)"


def test_a_table_is_written_with_all_its_rows(served_demo: ServedDemo, tmp_path: Path) -> None:
    [total] = served_demo.rows("SELECT count(*) AS facts FROM serving.fct_psd")
    for name in ("fct_psd", "serving.fct_psd"):
        target = tmp_path / f"{name}.parquet"
        shown = materia(served_demo.data_dir, "export", name, "-o", str(target))
        first, second = shown.stdout.splitlines()
        assert first.startswith(f"wrote {target}: {total['facts']:,} rows, ")
        assert second.startswith("generation 3, built ")
        assert parquet.read_metadata(target).num_rows == total["facts"]


def test_a_file_without_a_name_is_named_after_the_table_or_the_saved_query(
    served_demo: ServedDemo, tmp_path: Path
) -> None:
    def export(*arguments: str) -> None:
        environ = {**os.environ, "MATERIA_DATA_DIR": str(served_demo.data_dir)}
        subprocess.run([MATERIA, "export", *arguments], cwd=tmp_path, env=environ, check=True, timeout=60)

    export("dim_country")
    export("--saved", "coverage", "--format", "xlsx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coverage.xlsx", "dim_country.csv"]


def test_a_query_is_written_and_reported_as_json(served_demo: ServedDemo, tmp_path: Path) -> None:
    target = tmp_path / "today.csv"
    shown = materia(served_demo.data_dir, "export", "-", "-o", str(target), "--json", stdin=DAY)
    written = json.loads(shown.stdout)
    assert written.pop("generation")["number"] == 3
    assert written == {"path": str(target), "rows": len(served_demo.rows(DAY)), "size_bytes": target.stat().st_size}
    with target.open() as lines:
        assert len(list(csv.DictReader(lines))) == written["rows"] > 1000


def test_a_file_is_overwritten_only_with_force(served_demo: ServedDemo, tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    target.write_text("mine")
    refused = materia(served_demo.data_dir, "export", "dim_country", "-o", str(target))
    assert refused.returncode == Exit.FAILED and "exists already" in refused.stderr and "--force" in refused.stderr
    assert target.read_text() == "mine"
    assert materia(served_demo.data_dir, "export", "dim_country", "-o", str(target), "--force").returncode == Exit.DONE
    assert target.read_text().startswith('"country_code"')


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], Exit.USAGE, "--saved NAME"),
        (["dim_country", "--saved", "coverage"], Exit.USAGE, "--saved NAME"),
        (["SELECT 1"], Exit.USAGE, "--output"),
        (["dim_country", "-o", "x.txt"], Exit.USAGE, ".csv or .parquet or .xlsx"),
        (["dim_country", "-o", "x.csv", "--format", "xlsx"], Exit.USAGE, "does not end in .xlsx"),
        (["no_such_table"], Exit.FAILED, "no_such_table"),
        (["DROP TABLE serving.fct_psd", "-o", "x.csv"], Exit.FAILED, "only one SELECT"),
        (["FROM read_text('/etc/passwd')", "-o", "x.csv"], Exit.FAILED, "may not be called"),
        (["FROM range(1000000000000)", "-o", "x.csv", "--timeout", "0.5"], Exit.FAILED, "stopped after 0.5 s"),
        (["SELECT 1 FROM range(1048576)", "-o", "x.xlsx"], Exit.FAILED, "1,048,576"),
    ],
)
def test_a_refused_export_exits_with_its_reason_and_writes_nothing(
    served_demo: ServedDemo, tmp_path: Path, arguments: list[str], code: Exit, text: str
) -> None:
    arguments = [str(tmp_path / each) if each.startswith("x.") else each for each in arguments]
    shown = materia(served_demo.data_dir, "export", *arguments)
    assert (shown.returncode, shown.stdout) == (code, "")
    assert text in shown.stderr and "Traceback" not in shown.stderr
    assert not list(tmp_path.iterdir()) and not Path("no_such_table.csv").exists()

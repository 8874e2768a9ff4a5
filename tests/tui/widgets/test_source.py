"""Tests of finding the source of a log line or a step."""

from pathlib import Path

import pytest
from textual.widgets import Static

from tests.support.consoles import until
from tests.tui.building import console_on
from tui.logs.view import LogView
from tui.widgets.source import PROJECT, Place, SourceScreen, find_place, find_step


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (
            "INFO step=transformed [1/1] staging.stg_psdalldata__commodity [insert]",
            "models/staging/stg_psdalldata__commodity.sql",
        ),
        ('ERROR no such column in "lakehouse"."serving"."fct_psd"', "models/serving/fct_psd.sql"),
        ("ERROR audit accounts_for_every_row failed for raw.psd_alldata", "models/raw/psd_alldata.sql"),
        ("ERROR audit accounts_for_every_row failed", "audits/accounts_for_every_row.sql"),
    ],
)
def test_a_model_or_an_audit_leads_to_its_sql(line: str, path: str) -> None:
    assert find_place(line) == Place(PROJECT / "transform/sqlmesh_materia" / path, 1)


def test_a_traceback_leads_to_its_line_and_a_step_to_its_function() -> None:
    export = PROJECT / "dataflows" / "export.py"
    assert find_place(f'  File "{export}", line 12, in generation') == Place(export, 12)
    assert find_place("dataflows/export.py:7: no") == Place(export, 7)
    node = find_place("INFO run=3 step=generation refused")
    assert node == find_step("generation")
    assert node is not None and export.read_text().splitlines()[node.line - 1].startswith("def generation(")


@pytest.mark.parametrize(
    "line",
    [
        "INFO all is well",
        "step=no_such_step",
        'File "/etc/passwd.py", line 1',
        'File "ops/../../../../etc/hosts.py", line 1',
        'File "pyproject.py", line 3',
        "",
    ],
)
def test_a_path_outside_the_project_has_no_source(line: str) -> None:
    assert find_place(line) is None


async def test_a_failure_leads_to_the_innermost_call_of_ours_from_its_head_and_to_the_nearest_from_within(
    failing_dir: Path,
) -> None:
    files = ("dataflows/export.py", "dataflows/source/http.py")
    trace = [f'      File "{PROJECT / name}", line {n}, in call\n' for n, name in enumerate(files, 3)]
    library = '      File "/usr/lib/python3.11/http/client.py", line 7, in send\n'
    lines = ["2026-11-21T09:00:00.000Z ERROR run=8 run failed\n", *trace, library, "    ArchiveError: refused\n"]
    (failing_dir / "logs" / "run-8.log").write_text("".join(lines))
    app = console_on(failing_dir, first="logs")
    async with app.run_test(size=(120, 36)) as pilot:
        view = app.query_one(LogView)
        await until(pilot, lambda: "ArchiveError" in view.copied_line())
        innermost, outer = "source/http.py:4", "export.py:3"
        for keys, shown in ((["c"], innermost), (["home", "c"], innermost), (["down", "c"], outer)):
            await pilot.press(*keys)
            await until(pilot, lambda: isinstance(app.screen, SourceScreen))
            assert str(app.screen.query_one(".source").border_title) == f"dataflows/{shown}"
            await pilot.press("escape")


async def test_a_failed_step_leads_to_its_log_line_and_on_to_its_function(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="overview")
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.query("#alerts") and app.query_one("#alerts").rows)
        await pilot.press("enter")
        await until(pilot, lambda: app.query("#steps") and app.query_one("#steps").rows)
        await pilot.press("enter", "c")
        await until(pilot, lambda: isinstance(app.screen, SourceScreen))
        await pilot.press("escape", "enter")
        await until(pilot, lambda: "step=generation run failed" in app.query_one(LogView).copied_line())
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, SourceScreen))
        shown = app.screen.query_one(Static).visual.plain
        assert any(line.startswith("▶") and "def generation(" in line for line in shown.splitlines())
        await pilot.press("escape", "down", "down", "c")
        await until(pilot, lambda: isinstance(app.screen, SourceScreen))
        assert "GateError" in app.query_one(LogView).copied_line()
        await pilot.press("escape")
        assert not isinstance(app.screen, SourceScreen)

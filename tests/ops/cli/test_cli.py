import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from dataflows import errors
from dataflows.landing.local import LocalLanding
from dataflows.source.probe_memory import LiveCheck
from ops.host.exits import MEANINGS, Exit
from ops.host.lock import writer_lock
from ops.journal.journal import Journal
from ops.journal.recorder import record_run
from ops.journal.run import utc_now
from tests.ops.conftest import Spawn, serve
from tests.support.command_line import HEAVY, MATERIA, materia, modules_of

# A command as a colleague's module would add it, run by the real `main`.
WITH_COMMAND = """
import os, signal, sys, time, types, click
from dataclasses import replace
from datetime import date
from pathlib import Path
from ops import cli
module = types.ModuleType("extra")
@click.command()
def extra():
    {body}
module.extra = extra
sys.modules["extra"] = module
cli.COMMANDS["extra"] = "extra:extra"
sys.exit(cli.main([*sys.argv[1:], "extra"]))
"""


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A data directory with a fresh generation and a few runs."""
    serve(tmp_path / "serving.duckdb", 12, released_on=utc_now().date())
    with Journal(tmp_path / "runs.sqlite") as journal:
        with (
            record_run(journal, "run-all", log_dir=tmp_path / "logs") as whole,
            whole.child("extract", arguments=["--as-of", "2025-11"]) as extract,
        ):
            with extract.step("probe", "4 months"):
                pass
            extract.result, extract.snapshots = "nothing new", ("etag1",)
        with pytest.raises(errors.GateError), record_run(journal, "export_serving"):
            raise errors.GateError("fct_psd lacks rows; look at the gate")
    return tmp_path


def test_status_of_an_empty_directory_exits_with_3(tmp_path: Path) -> None:
    shown = materia(tmp_path, "status")
    assert shown.returncode == Exit.UNWELL and shown.stderr == ""
    assert "missing: nothing is served yet" in shown.stdout and "next: materia run-all" in shown.stdout


def test_status_exits_with_0_when_all_is_well(tmp_path: Path) -> None:
    serve(tmp_path / "serving.duckdb", 12, released_on=utc_now().date())
    with Journal(tmp_path / "runs.sqlite") as journal, record_run(journal, "extract"):
        pass
    shown = materia(tmp_path, "status")
    assert shown.returncode == Exit.DONE, shown.stdout
    assert "generation 12" in shown.stdout and "all is well" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_status_as_json_has_its_shape(filled: Path) -> None:
    shown = materia(filled, "status", "--json")
    assert shown.returncode == Exit.UNWELL
    status = json.loads(shown.stdout)
    assert status.keys() == {
        "checked_at",
        "ok",
        "generation",
        "expected_release",
        "current_file",
        "gateway",
        "lakehouse",
        "pipelines",
        "problems",
    }
    assert status["ok"] is False
    assert status["checked_at"].endswith("+00:00")
    assert status["generation"]["number"] == 12
    states = {state["pipeline"]: state for state in status["pipelines"]}
    assert list(states) == ["run-all", "extract", "transform", "export_serving"]
    extract = states["extract"]
    assert (extract["status"], extract["result"], extract["run_id"]) == ("done", "nothing new", 2)
    assert extract["duration_s"] >= 0 and extract["last_success_at"] == extract["ended_at"]
    assert states["transform"]["status"] is None
    [problem] = status["problems"]
    assert problem.keys() == {"severity", "what", "since", "next_step", "run_id", "key"}
    assert (
        problem["severity"] == "failed" and "`materia runs show 3`" in problem["next_step"] and problem["run_id"] == 3
    )


def test_status_shows_when_the_current_file_was_last_checked(filled: Path) -> None:
    """And whether the file that it found is what is served: generation 12 has the snapshot etag1."""
    landing = LocalLanding(filled / "landing")
    landing.update_memory("psd_alldata", lambda memory: replace(memory, live=LiveCheck(date(2026, 11, 20), "other")))
    other = json.loads(materia(filled, "status", "--json").stdout)["current_file"]
    assert other == {"checked_on": "2026-11-20", "snapshot_key": "other", "is_served": False}
    message = "current file last checked on 2026-11-20: it was other, which is not served"
    assert message in materia(filled, "status").stdout


def test_status_imports_nothing_heavy(filled: Path) -> None:
    modules = modules_of(filled, "status", "--json")
    assert "sqlite3" in modules and sorted(modules & set(HEAVY)) == []


def test_runs_are_listed_newest_first(filled: Path) -> None:
    shown = materia(filled, "runs")
    assert shown.returncode == Exit.DONE
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["run", "pipeline", "status", "began", "took", "trigger", "outcome"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["3", "export_serving", "failed"],
        ["2", "extract", "done"],
        ["1", "run-all", "done"],
    ]
    assert [run["id"] for run in json.loads(materia(filled, "runs", "--json", "--limit", "2").stdout)] == [
        3,
        2,
    ]
    only = materia(filled, "runs", "--json", "--pipeline", "extract", "--status", "done")
    assert [(run["id"], run["parent_id"]) for run in json.loads(only.stdout)] == [(2, 1)]
    assert materia(filled, "runs", "--status", "died").stdout == "no runs\n"


def test_a_run_is_shown_with_steps_error_and_log(filled: Path) -> None:
    shown = materia(filled, "runs", "show", "2").stdout
    assert "extract --as-of 2025-11" in shown and "nothing new" in shown and "etag1" in shown
    assert "probe" in shown and "4 months" in shown and str(filled / "logs" / "run-2.log") in shown
    assert "run-all (run 1)" in shown
    assert "fct_psd lacks rows" in materia(filled, "runs", "show", "3").stdout
    assert "Traceback" in materia(filled, "--debug", "runs", "show", "3").stdout

    whole = json.loads(materia(filled, "runs", "show", "1", "--json").stdout)
    assert whole["status"] == "done" and [run["id"] for run in whole["runs"]] == [2]
    inner = json.loads(materia(filled, "runs", "show", "2", "--json").stdout)
    assert [(step["name"], step["status"]) for step in inner["steps"]] == [("probe", "done")]

    log = materia(filled, "runs", "show", "2", "--log")
    assert log.stdout == (filled / "logs" / "run-2.log").read_text() and "run=2" in log.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["runs", "show", "99"], Exit.USAGE, "error: there is no run 99"),
        (["runs", "show", "three"], Exit.USAGE, "Usage:"),
        (["runs", "show", "2", "--log", "--json"], Exit.USAGE, "cannot be combined"),
        (["runs", "show", "3", "--log"], Exit.FAILED, "error: run 3 has no log"),
        (["nonsense"], Exit.USAGE, "No such command"),
        (["status", "--nonsense"], Exit.USAGE, "No such option"),
        ([], Exit.USAGE, "Usage:"),
    ],
)
def test_wrong_usage_is_reported_on_stderr_without_a_traceback(
    filled: Path, arguments: list[str], code: Exit, text: str
) -> None:
    shown = materia(filled, *arguments)
    assert (shown.returncode, shown.stdout) == (code, "")
    assert text in shown.stderr and "Traceback" not in shown.stderr


def test_a_wrong_setting_exits_with_2(tmp_path: Path) -> None:
    shown = materia(tmp_path, "status", PSD_ARCHIVE_URL="ftp://nowhere")
    assert shown.returncode == Exit.USAGE and shown.stderr.startswith("error: PSD_ARCHIVE_URL=")


def test_a_broken_journal_fails_runs_by_name(tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite").write_bytes(b"broken" * 1000)
    shown = materia(tmp_path, "runs")
    assert shown.returncode == Exit.FAILED
    assert shown.stderr.startswith("error: ") and "the run journal " in shown.stderr and "runs.sqlite" in shown.stderr


def test_help_and_version_are_quick_to_reach(tmp_path: Path) -> None:
    for option in ("-h", "--help"):
        shown = materia(tmp_path, option)
        assert shown.returncode == Exit.DONE and "status" in shown.stdout and "runs" in shown.stdout
    assert materia(tmp_path, "--version").stdout.startswith("materia 0.2.0 (")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_and_completes(tmp_path: Path, shell: str) -> None:
    shown = materia(tmp_path, "completion", shell)
    assert shown.returncode == Exit.DONE and "_MATERIA_COMPLETE" in shown.stdout
    completed = materia(tmp_path, _MATERIA_COMPLETE="bash_complete", COMP_WORDS="materia st", COMP_CWORD="1").stdout
    assert completed == "plain,status\n"


def test_extract_psd_is_pipeline_run_extract(tmp_path: Path) -> None:
    code = (
        "import sys, types, click; from ops import cli\n"
        "module = types.ModuleType('extra')\n"
        "@click.group()\ndef pipeline(): pass\n"
        "@pipeline.command()\n@click.argument('words', nargs=-1)\ndef run(words): click.echo(words)\n"
        "module.pipeline = pipeline; sys.modules['extra'] = module\n"
        "cli.COMMANDS['pipeline'] = 'extra:pipeline'\n"
        "sys.exit(cli.extract_psd())"
    )
    shown = subprocess.run([sys.executable, "-c", code, "again"], capture_output=True, text=True, timeout=60)
    assert shown.stdout == "('extract', 'again')\n", shown.stderr


def test_a_lock_held_by_another_process_exits_with_4(tmp_path: Path, spawn: Spawn) -> None:
    body = f"from ops.host.lock import writer_lock; writer_lock(Path({str(tmp_path / 'l')!r}), 'x').__enter__()"
    with writer_lock(tmp_path / "l", "extract") as lock:
        lock.name_run(7)
        process = spawn(WITH_COMMAND.format(body=body))
        _, shown = process.communicate(timeout=60)
    assert process.returncode == Exit.LOCKED
    assert shown.startswith("error: another run is writing") and "materia runs show 7" in shown


def test_an_unexpected_error_exits_with_1_and_shows_no_secret(spawn: Spawn) -> None:
    environ = {**os.environ, "HETZNER_TOKEN": "hush-hush"}
    for arguments, traceback in (([], False), (["--debug"], True)):
        process = spawn(WITH_COMMAND.format(body="1 / {'hush-hush': 0}['hush-hush']"), *arguments, env=environ)
        _, shown = process.communicate(timeout=60)
        assert process.returncode == Exit.FAILED
        assert "error: unexpected ZeroDivisionError: division by zero" in shown
        assert ("Traceback" in shown) is traceback and "hush-hush" not in shown


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_exits_with_130(tmp_path: Path, spawn: Spawn, sent: signal.Signals) -> None:
    body = (
        f"from ops.journal.journal import Journal; from ops.journal.recorder import record_run\n"
        f"    with record_run(Journal(Path({str(tmp_path / 'runs.sqlite')!r})), 'extract'):\n"
        f"        print('up', flush=True); time.sleep(600)"
    )
    process = spawn(WITH_COMMAND.format(body=body))
    assert process.stdout and process.stdout.readline() == "up\n"
    process.send_signal(sent)
    assert process.wait(timeout=60) == Exit.INTERRUPTED
    assert "interrupted  " in materia(tmp_path, "runs").stdout


def test_a_reader_that_goes_away_makes_no_traceback(filled: Path) -> None:
    shown = subprocess.run(
        f"{MATERIA} runs --json --limit 10000 | true",
        shell=True,
        env={**os.environ, "MATERIA_DATA_DIR": str(filled)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in shown.stderr


def test_every_exit_code_has_a_meaning_and_every_error_a_code() -> None:
    assert set(MEANINGS) == set(Exit)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(kind.exit_code in set(Exit) for kind in kinds if issubclass(kind, errors.MateriaError))
    assert errors.LockHeldError.exit_code == Exit.LOCKED and errors.SettingsError.exit_code == Exit.USAGE

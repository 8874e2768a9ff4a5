import json
from pathlib import Path

import pytest

from dataflows.serving.store import ServingStore
from ops.host.exits import Exit
from ops.host.lock import writer_lock
from ops.journal.journal import Journal
from tests.support.command_line import materia, modules_of
from tests.support.served_demo import ServedDemo


@pytest.fixture
def data_dir(served_demo: ServedDemo, tmp_path: Path) -> Path:
    """A copy of the served generations, to write to."""
    return served_demo.copy(tmp_path / "data")


def served_number(data_dir: Path) -> int:
    served = ServingStore(data_dir / "serving.duckdb").served()
    assert served is not None
    return served.number


def test_generations_are_listed_newest_first_with_the_served_one_marked(served_demo: ServedDemo) -> None:
    shown = materia(served_demo.data_dir, "serving", "list")
    assert [line[:10].strip() for line in shown.stdout.splitlines()] == ["generation", "* 3", "2", "1"]
    listed = json.loads(materia(served_demo.data_dir, "serving", "list", "--json").stdout)
    assert [(each["number"], each["served"], len(each["snapshots"])) for each in listed] == [
        (3, True, 3),
        (2, False, 2),
        (1, False, 1),
    ]
    assert all(each["size_bytes"] > 0 and each["age_s"] > 0 and each["row_counts"]["fct_psd"] for each in listed)
    assert not modules_of(served_demo.data_dir, "serving", "list") & {"duckdb", "hamilton", "sqlmesh", "pandas"}


def test_a_rollback_is_recorded_and_holds_while_nothing_is_new(data_dir: Path) -> None:
    shown = materia(data_dir, "serving", "rollback")
    assert shown.returncode == Exit.DONE and shown.stdout.startswith("generation 2 serves again instead of 3")
    assert "stays until a new release is landed" in shown.stdout
    assert "generation 2, built" in materia(data_dir, "query", "SELECT 1").stdout
    with Journal(data_dir / "runs.sqlite") as journal:
        [run] = journal.runs(1)
    assert (run.pipeline, run.status, run.arguments, len(run.snapshots)) == ("rollback", "done", (), 2)
    assert run.result is not None and run.result.startswith("generation 2 serves again")

    again = materia(data_dir, "pipeline", "run", "export_serving")
    assert (again.returncode, again.stdout) == (Exit.DONE, "nothing new\n")
    assert served_number(data_dir) == 2


def test_any_kept_generation_can_be_served_again(data_dir: Path) -> None:
    assert "generation 1 serves again instead of 3" in materia(data_dir, "serving", "rollback", "1").stdout
    assert "generation 3 serves again instead of 1" in materia(data_dir, "serving", "rollback", "3").stdout
    assert "generation 3 was served already" in materia(data_dir, "serving", "rollback", "3").stdout
    assert served_number(data_dir) == 3


@pytest.mark.parametrize(
    ("number", "text"), [("9", "generation 9 is not kept"), ("", "nothing before generation 1 is kept")]
)
def test_a_rollback_to_nothing_is_refused_and_leaves_no_failed_run(data_dir: Path, number: str, text: str) -> None:
    if not number:
        assert materia(data_dir, "serving", "rollback", "1").returncode == Exit.DONE
    served = served_number(data_dir)
    shown = materia(data_dir, "serving", "rollback", *([number] if number else []))
    assert shown.returncode == Exit.FAILED and text in shown.stderr and "materia serving list" in shown.stderr
    with Journal(data_dir / "runs.sqlite") as journal:
        assert journal.last_failure_by_pipeline() == {}
    assert served_number(data_dir) == served


def test_a_rollback_waits_for_no_writer(data_dir: Path) -> None:
    with writer_lock(data_dir / "writer.lock", "extract"):
        shown = materia(data_dir, "serving", "rollback")
    assert shown.returncode == Exit.LOCKED and served_number(data_dir) == 3


def test_a_whole_generation_is_verified(served_demo: ServedDemo) -> None:
    shown = materia(served_demo.data_dir, "serving", "verify")
    assert shown.returncode == Exit.DONE and shown.stdout.startswith("generation 3 is intact: its sha256")
    verified = json.loads(materia(served_demo.data_dir, "serving", "verify", "1", "--json").stdout)
    assert (verified["ok"], verified["generation"]["number"]) == (True, 1)


def test_a_changed_generation_is_found_and_never_served(data_dir: Path) -> None:
    path = data_dir / "serving-2.duckdb"
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 8)
    for command in ("verify", "rollback"):
        shown = materia(data_dir, "serving", command, "2")
        assert shown.returncode == Exit.FAILED and "its sha256 differs" in shown.stderr
    assert served_number(data_dir) == 3


def test_without_generations_the_next_step_is_named(tmp_path: Path) -> None:
    assert materia(tmp_path, "serving", "list").stdout == "no generation is kept yet; next: materia run-all\n"
    assert materia(tmp_path, "serving", "list", "--json").stdout == "[]\n"
    for command in ("rollback", "verify"):
        shown = materia(tmp_path, "serving", command)
        assert shown.returncode == Exit.FAILED and "run `materia run-all`" in shown.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dangling_link_is_reported_and_can_be_repaired(data_dir: Path) -> None:
    for path in (data_dir / "serving-3.duckdb", data_dir / "serving-3.json"):
        path.unlink()
    shown = materia(data_dir, "serving", "list")
    assert "points at" in shown.stderr and "none of these is served" in shown.stdout
    assert "generation 2 serves again" in materia(data_dir, "serving", "rollback").stdout

from pathlib import Path

import pytest

from ops.host.exits import Exit
from tests.support.command_line import materia


def test_dot_and_mermaid_need_no_program(tmp_path: Path) -> None:
    mermaid = materia(tmp_path, "dag", "extract", PATH="")
    assert mermaid.returncode == Exit.DONE and "flowchart TD" in mermaid.stdout
    assert materia(tmp_path, "dag", "extract", "--format", "mermaid", PATH="").stdout == mermaid.stdout
    dot = materia(tmp_path, "dag", "export", "--format", "dot", PATH="")
    assert dot.returncode == Exit.DONE and dot.stdout.startswith("digraph export {")


def test_without_dot_an_image_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for kind in ("svg", "png"):
        target = tmp_path / f"extract.{kind}"
        shown = materia(tmp_path, "dag", "extract", "-o", str(target), PATH="")
        assert (shown.returncode, shown.stdout) == (Exit.FAILED, "")
        assert "apt-get install graphviz" in shown.stderr and "--format mermaid" in shown.stderr
        assert not target.exists()


def test_the_suffix_of_the_file_determines_the_format(tmp_path: Path) -> None:
    target = tmp_path / "extract.dot"
    assert materia(tmp_path, "dag", "extract", "-o", str(target)).returncode == Exit.DONE
    assert target.read_text().startswith("digraph extract {")


@pytest.mark.needs("dot")
def test_an_image_names_the_dot_source_that_it_shows(tmp_path: Path) -> None:
    picture = tmp_path / "extract.svg"
    assert materia(tmp_path, "dag", "extract", "-o", str(picture)).returncode == Exit.DONE
    assert "<svg" in picture.read_text() and "<!-- dot sha256:" in picture.read_text()


def test_wrong_usage_is_reported(tmp_path: Path) -> None:
    assert materia(tmp_path, "dag", "transform").returncode == Exit.USAGE
    nowhere = materia(tmp_path, "dag", "extract", "-o", str(tmp_path / "none" / "x.dot"))
    assert nowhere.returncode == Exit.USAGE and "cannot write" in nowhere.stderr

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from dataflows.driver import build
from ops.config.settings import PROJECT_DIR
from ops.pipelines import dag as pictures

DOCS = PROJECT_DIR / "docs" / "pictures"
OUTDATED = "`just dag` draws it again"


@pytest.mark.parametrize("name", list(pictures.DATAFLOWS))
def test_the_committed_pictures_are_up_to_date(name: str) -> None:
    drawn = pictures.dag_of(name)
    assert (DOCS / f"dag-{name}.dot").read_text() == pictures.dot_text(drawn), OUTDATED
    assert (DOCS / f"dag-{name}.mmd").read_text() == pictures.mermaid_text(drawn), OUTDATED
    svg = (DOCS / f"dag-{name}.svg").read_text()
    assert svg.rstrip().endswith(f"<!-- dot {pictures.dot_digest(drawn)} -->"), OUTDATED


def test_every_function_comes_after_what_it_needs() -> None:
    extract = pictures.dag_of("extract")
    names = [node.name for node in extract.nodes]
    assert set(names) == {
        "candidates",
        "live",
        "probes",
        "newest_posted",
        "landed_already",
        "download",
        "contents",
        "archived",
        "current_file",
        "snapshot",
    }
    assert all(names.index(need) < place for place, node in enumerate(extract.nodes) for need in node.needs)
    download = extract.nodes[names.index("download")]
    assert download.needs == ("newest_posted", "landed_already") and download.takes == ("archive", "landing")
    assert download.returns == "Download | None" and download.summary.startswith("The zip in the landing's workspace")
    export = [node.name for node in pictures.dag_of("export").nodes]
    assert export == [
        "landed",
        "reports",
        "lakehouse_pulled",
        "transformed",
        "lakehouse_pushed",
        "built",
        "verified",
        "gate_faults",
        "generation",
        "generations_synced",
        "iceberg_published",
    ]
    generation = next(node for node in pictures.dag_of("export").nodes if node.name == "generation")
    assert {"verified", "gate_faults"} <= set(generation.needs)


@pytest.mark.parametrize("name", list(pictures.DATAFLOWS))
def test_the_dataflow_read_from_its_source_is_hamiltons(name: str) -> None:
    module, final, _ = pictures.DATAFLOWS[name]
    upstream, _ = build(import_module(module)).graph.get_upstream_nodes([final])
    theirs = {node.name: {each.name for each in node.dependencies} for node in upstream if not node.user_defined}
    assert {node.name: {*node.needs, *node.takes} for node in pictures.dag_of(name).nodes} == theirs


def test_a_dataflow_stops_at_the_node_that_is_named() -> None:
    nodes = [node.name for node in pictures.dag_of("export", "transformed").nodes]
    assert nodes == ["landed", "reports", "lakehouse_pulled", "transformed"]


@pytest.mark.parametrize("name", list(pictures.DATAFLOWS))
def test_every_arrow_is_in_both_texts(name: str) -> None:
    drawn = pictures.dag_of(name)
    arrows = {(needed, node.name) for node in drawn.nodes for needed in node.needs}
    assert len(arrows) >= len(drawn.nodes) - 1
    assert set(re.findall(r"^  (\w+) -> (\w+);$", pictures.dot_text(drawn), re.MULTILINE)) == arrows
    assert set(re.findall(r"^  (\w+) --> (\w+)$", pictures.mermaid_text(drawn), re.MULTILINE)) == arrows
    for node in drawn.nodes:
        for text in (pictures.dot_text(drawn), pictures.mermaid_text(drawn)):
            assert (f"{node.name}_inputs" in text) == bool(node.takes)


def test_another_process_elsewhere_makes_the_same_text(tmp_path: Path) -> None:
    code = (
        "import sys; from ops.pipelines.dag import *; "
        "d = dag_of('export'); sys.stdout.write(dot_text(d) + mermaid_text(d))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT_DIR), "PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    drawn = pictures.dag_of("export")
    assert elsewhere == pictures.dot_text(drawn) + pictures.mermaid_text(drawn)
    assert str(PROJECT_DIR) not in elsewhere and "0x" not in elsewhere


def test_no_picture_in_docs_belongs_to_no_dataflow() -> None:
    expected = {f"dag-{name}.{ending}" for name in pictures.DATAFLOWS for ending in ("dot", "mmd", "svg")}
    assert {path.name for path in DOCS.glob("dag-*")} == expected


@pytest.mark.needs("dot")
def test_a_dataflow_is_drawn_as_png() -> None:
    assert pictures.png_bytes(pictures.dag_of("extract")).startswith(b"\x89PNG")

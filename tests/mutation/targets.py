"""Which modules are mutated, and which tests must notice."""

from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "explanation" / "mutants.md"
RESULTS = Path("tests", "mutation", "results.json")
"""Per module: the number of mutants, and the survivors with their reasons."""
AIM = 0.9
"""Share of a module's mutants that the tests beside it must kill."""
MOST = 110
SAMPLE = 50
"""How many mutants are tested of a module that has more than `MOST`."""


@dataclass(frozen=True)
class Target:
    """A module, and the tests that are run against each mutant of it, the fastest first."""

    module: str
    tests: tuple[str, ...]
    slow: str = ""
    """Slow tests, as pytest's `-k` names them: they run against those mutants that no other test notices."""


TARGETS = {
    "files": Target("dataflows/files.py", ("tests/dataflows/test_files.py",)),
    "gate": Target("dataflows/serving/gate.py", ("tests/dataflows/serving/test_gate.py",)),
    "store": Target(
        "dataflows/serving/store.py",
        ("tests/dataflows/serving/test_store.py", "tests/dataflows/test_durability.py"),
        slow="killed_at_any_step",
    ),
    "asof": Target(
        "dataflows/serving/asof.py",
        ("tests/dataflows/serving/test_asof.py", "tests/dataflows/serving/test_asof_macros.py"),
        slow="test_asof_macros",
    ),
    "asof-macro": Target("transform/sqlmesh_materia/macros/asof.py", ("tests/transform/test_asof_macro.py",)),
    "stamps": Target(
        "transform/sqlmesh_materia/macros/stamps.py",
        ("tests/transform/test_certain.py",),
        slow="certain_answer or every_posting_landed",
    ),
    "reader": Target("dataflows/serving/reader.py", ("tests/dataflows/serving/test_reader.py",)),
    "archive": Target(
        "dataflows/source/archive.py",
        ("tests/dataflows/source/test_archive.py", "tests/dataflows/source/test_probing.py"),
    ),
    "extract": Target(
        "dataflows/extract.py", ("tests/dataflows/test_extract.py", "tests/dataflows/source/test_probing.py")
    ),
    "landing": Target(
        "dataflows/landing/local.py",
        (
            "tests/dataflows/landing/test_local.py",
            "tests/dataflows/landing/test_upgrade.py",
            "tests/dataflows/source/test_probing.py",
        ),
        slow="killed_at_any_step or hamilton_loads",
    ),
    "psd_zip": Target(
        "dataflows/source/psd_zip.py",
        ("tests/dataflows/source/test_psd_zip.py",),
        slow="flipped_bit or odd_row or real_grains or real_eu or cut_anywhere",
    ),
    "schedule": Target(
        "ops/config/schedule.py",
        ("tests/ops/config/test_schedule.py",),
        slow="whatever_the_outages or year_without_trouble",
    ),
    "alerts": Target("ops/health/alerts.py", ("tests/ops/supervisor/test_alerts.py",)),
    "lock": Target("ops/host/lock.py", ("tests/ops/host/test_lock.py",)),
    "redact": Target("ops/host/redact.py", ("tests/ops/host/test_redact.py",)),
    "caps": Target(
        "ops/workers/caps.py",
        (
            "tests/ops/workers/test_caps.py",
            "tests/dataflows/test_durability.py::test_a_line_of_the_workers_ledger_is_flushed_before_a_machine_is_asked_for",
        ),
    ),
    "labels": Target("ops/workers/labels.py", ("tests/ops/workers/test_labels.py",)),
    "read-only": Target("tui/shell/actions.py", ("tests/tui/shell/test_actions.py",)),
}

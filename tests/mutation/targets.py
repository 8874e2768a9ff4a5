"""Which modules are mutated, and which tests must notice."""

from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "explanation" / "mutants.md"
RESULTS = Path("tests", "mutation", "results.json")
"""Per module: the number of mutants, and the survivors with their reasons."""
AIM = 0.9
"""Share of a module's mutants that the tests beside it must kill."""


@dataclass(frozen=True)
class Target:
    """A module, and the tests that are run against each mutant of it, the fastest first."""

    module: str
    tests: tuple[str, ...]
    skip: str = ""
    """Names of slow tests that are left out, as pytest's `-k` reads them."""


TARGETS = {
    "files": Target("dataflows/files.py", ("tests/dataflows/test_files.py",)),
    "gate": Target("dataflows/serving/gate.py", ("tests/dataflows/serving/test_gate.py",)),
    "store": Target(
        "dataflows/serving/store.py",
        ("tests/dataflows/serving/test_store.py", "tests/dataflows/test_durability.py"),
        skip="killed_at_any_step",
    ),
    "reader": Target("dataflows/serving/reader.py", ("tests/dataflows/serving/test_reader.py",)),
    "archive": Target(
        "dataflows/source/archive.py", ("tests/dataflows/source/test_archive.py", "tests/dataflows/test_extract.py")
    ),
    "extract": Target("dataflows/extract.py", ("tests/dataflows/test_extract.py",)),
    "landing": Target(
        "dataflows/landing/local.py", ("tests/dataflows/landing/test_local.py", "tests/dataflows/test_extract.py")
    ),
    "psd_zip": Target("dataflows/source/psd_zip.py", ("tests/dataflows/source/test_psd_zip.py",)),
    "schedule": Target(
        "ops/config/schedule.py",
        ("tests/ops/config/test_schedule.py",),
        skip="whatever_the_outages or year_without_trouble",
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

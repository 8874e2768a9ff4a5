"""What is installed: the lock files, the declared dependencies and the wheel."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-uv.lock")
PACKAGES = ("dataflows", "ops", "tui")
EXCLUDED = ":!transform/sqlmesh_materia/tests"
OURS = {*PACKAGES, "macros"}
BROUGHT_BY = {
    "aiohttp": "textual-serve",
    "botocore": "boto3",
    "cryptography": "fabric",
    "keystoneauth1": "openstacksdk",
    "paramiko": "fabric",
    "pydantic": "sqlmesh",
    "requests": "hcloud",
    "scaleway-core": "scaleway",
    "sqlglot": "sqlmesh",
}
"""Distributions that are imported without being declared, and the declared one whose API they are part of."""


def check_locks(project: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, PROJECT / ".ci" / "lock.py", "check", "--project", project]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_the_lock_files_belong_to_pyproject() -> None:
    done = check_locks(PROJECT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"duckdb==1.5.5"', '"duckdb==1.5.4"'),
        ('exclude-newer = "20', 'exclude-newer = "19'),
        ('"psutil>=7"', '"psutil>=6"'),
        ('"pyiceberg==0.12.0"', '"pyiceberg==0.11.0"'),
    ],
)
def test_a_changed_declaration_makes_the_lock_files_out_of_date(tmp_path: Path, old: str, new: str) -> None:
    for name in LOCKS:
        shutil.copy(PROJECT / name, tmp_path)
    declared = (PROJECT / "pyproject.toml").read_text()
    assert declared.count(old) == 1
    (tmp_path / "pyproject.toml").write_text(declared.replace(old, new))
    done = check_locks(tmp_path)
    assert done.returncode == 1 and "requirements.lock is out of date" in done.stderr and "just lock" in done.stderr


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_has_a_hash_for_every_version_and_names_no_host(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert "://" not in text and "index" not in re.sub(r"(?m)^[\w.-]+==.*$", "", text)
    entries = re.split(r"(?m)^(?=[\w.-]+==)", text)[1:]
    assert entries and all("--hash=sha256:" in entry for entry in entries)


def test_a_package_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    """What supervisor, workers and CI install with, and a lock file whose hashes of click are wrong."""
    (tmp_path / "ops").mkdir()
    for name in ("pyproject.toml", "requirements.lock", "ops/install.sh"):
        shutil.copy(PROJECT / name, tmp_path / name)
    lock = (PROJECT / "requirements.lock").read_text()
    entry = re.search(r"(?m)^click==.*(?:\n +--hash=.*)+", lock)
    assert entry
    forged = re.sub(r"sha256:\w{8}", "sha256:00000000", entry[0])
    (tmp_path / "requirements.lock").write_text(lock.replace(entry[0], forged))
    done = subprocess.run([tmp_path / "ops" / "install.sh"], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "Hash mismatch for `click==" in done.stderr, done.stderr
    assert not list(tmp_path.glob(".venv/lib/*/site-packages/click"))


def test_every_declared_requirement_is_locked_at_a_version_it_allows() -> None:
    locked: dict[str, set[Version]] = {}
    for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", (PROJECT / "requirements.lock").read_text()):
        locked.setdefault(canonicalize_name(name), set()).add(Version(version))
    groups = PYPROJECT["dependency-groups"]
    declared = [
        *PYPROJECT["project"]["dependencies"],
        *(each for extra in PYPROJECT["project"]["optional-dependencies"].values() for each in extra),
        *(each for group in ("build", "dev") for each in groups[group] if isinstance(each, str)),
    ]
    for requirement in map(Requirement, declared):
        if requirement.name != "materia":
            versions = locked[canonicalize_name(requirement.name)]
            assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_uv_sync_leaves_spark_out_and_ci_installs_it() -> None:
    groups = PYPROJECT["dependency-groups"]
    assert groups["spark"] == ["materia[spark]"] and not any("spark" in str(each) for each in groups["dev"])
    assert re.search(r"(?m)^pyspark==", (PROJECT / "requirements.lock").read_text())
    for name in (".ci/run", ".gitlab-ci.yml"):
        assert "ops/install.sh --dev" in (PROJECT / name).read_text(), "every version of requirements.lock"


def test_every_import_is_a_declared_production_dependency() -> None:
    """The development tools are not installed there: what only they bring would be missing."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    requirements = [*PYPROJECT["project"]["dependencies"], *(each for extra in extras.values() for each in extra)]
    declared = {canonicalize_name(Requirement(text).name) for text in requirements}
    owners = packages_distributions()
    for room in (*PACKAGES, "transform"):
        for path in (PROJECT / room).rglob("*.py"):
            for name in imported(path) - OURS - set(sys.stdlib_module_names):
                known = {canonicalize_name(each) for each in owners.get(name, (name,))}
                known |= {BROUGHT_BY[each] for each in known & BROUGHT_BY.keys()}
                assert known & declared, f"{path.relative_to(PROJECT)} imports {name}, which no extra declares"


def imported(path: Path) -> set[str]:
    """The top-level names that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.needs("git")
def test_nothing_advises_to_install_the_other_materia() -> None:
    tracked = subprocess.run(["git", "-C", PROJECT, "ls-files", "-z"], capture_output=True, text=True, check=True)
    advice = re.compile(r"pip install[^\n]*\bmateria\b")
    paths = [PROJECT / name for name in tracked.stdout.split("\0") if name and not name.startswith("tests/")]
    texts = {path: path.read_text(errors="replace") for path in paths if path.is_file()}
    assert [str(path) for path, text in texts.items() if advice.search(text)] == []
    assert "Private :: Do Not Upload" in PYPROJECT["project"]["classifiers"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built with the hatchling that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, timeout=60)
    return next(folder.glob("*.whl"))


@pytest.mark.needs("git")
def test_the_wheel_holds_all_that_runs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard", "--", *PACKAGES, "transform", EXCLUDED],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    tracked = {name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file()}
    assert names == tracked
    assert {
        "tui/shell/console.tcss",
        "tui/overview/overview.tcss",
        "transform/sqlmesh_materia/config.py",
        "ops/supervisor/supervisor.sh",
    } <= names


def test_an_installed_wheel_runs_the_demo_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Installed without a checkout it keeps its data in the user's directory and writes nothing beside its code."""
    # SQLMesh takes what lies in a folder of this name for a library.
    site, home, empty = tmp_path / "site-packages", tmp_path / "home", tmp_path / "empty"
    for folder in (home, empty):
        folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    unset = ("MATERIA_", "PSD_", "SERVING_", "LAKEHOUSE_", "XDG_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    environ = {**inherited, "HOME": str(home), "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    before = set(site.rglob("*"))

    def materia(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", "from ops.cli import main; main()", *arguments]
        return subprocess.run(command, cwd=empty, env=environ, capture_output=True, text=True, timeout=180)

    done = materia("demo", "--rows", "2000", "--releases", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    data_dir = home / ".local" / "share" / "materia"
    assert (data_dir / "demo" / "serving.duckdb").exists()
    assert f"data directory {data_dir}, of this user" in materia("doctor").stdout
    assert set(site.rglob("*")) == before
    assert list(empty.iterdir()) == []

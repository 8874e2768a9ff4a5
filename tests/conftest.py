"""Fixtures that every room may use."""

import gc
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.faulty_archive import FaultyArchive
from tests.support.object_server import ObjectServer
from tests.support.once import build_once
from tests.support.postgres_server import PostgresServer
from tests.support.real_files import SHARED_PSD, required
from tests.support.served_demo import ServedDemo, run_demo

if TYPE_CHECKING:
    from tests.support.spark_cluster import SparkCluster

# Tests start hundreds of processes. Without cached bytecode each of them compiles a thousand modules for two seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Imported libraries are a million objects that never go; searching them less often saves a twentieth of the time.
gc.set_threshold(50_000, 20, 50)

pytest_plugins = ["tests.support.needs", "tests.support.scheduling", "tests.support.torture"]


@pytest.fixture(scope="session")
def shared_psd() -> Path:
    """The folder of real USDA files; skips where it is missing."""
    return required(SHARED_PSD)


@pytest.fixture
def archive() -> Iterator[FaultyArchive]:
    """An empty loopback archive with injectable faults."""
    with FaultyArchive() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server; each test asks it for a database of its own."""
    from tests.support.needs import require_tool

    require_tool("initdb")
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SparkCluster]":
    """A Spark cluster for one file: tests kill its parts, and Java takes memory for as long as it runs."""
    from tests.support.spark_cluster import SparkCluster

    with SparkCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def served_demo(tmp_path_factory: pytest.TempPathFactory) -> ServedDemo:
    """A data directory where the real pipelines published three generated releases; built once, only read."""

    def build(folder: Path) -> None:
        (folder / "demo.pickle").write_bytes(pickle.dumps(run_demo(folder / "demo")))

    return pickle.loads((build_once(tmp_path_factory, "demo", build) / "demo.pickle").read_bytes())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """The one real object server, and Iceberg catalog, of a session."""
    with ObjectServer(tmp_path_factory.mktemp("weed")) as running:
        yield running

"""Helpers for rooms where several real processes meet."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from dataflows.serving.generation import Generation, sidecar_of
from ops.journal.journal import Journal
from tests.support.small_database import small_database

Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "runs.sqlite") as journal:
        yield journal


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start Python code as a process of its own; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, **options: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def serve(serving_path: Path, number: int, *, released_on: date) -> None:
    """Make `serving_path` lead to a described generation, as a publish leaves it (the data apart)."""
    target = serving_path.with_name(f"{serving_path.stem}-{number}.duckdb")
    content = small_database()
    target.write_bytes(content)
    generation = Generation(
        number=number,
        created_at=datetime.now(UTC),
        code_version="abc123",
        duckdb_version="1.5.5",
        models_digest="0" * 64,
        snapshots=("etag1",),
        newest_released_on=released_on,
        row_counts={"fct_psd": 1},
        forced_reason=None,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    sidecar_of(target).write_text(generation.to_json())
    serving_path.unlink(missing_ok=True)
    serving_path.symlink_to(target.name)

"""A data directory with generated releases served, made once per session by the demo itself."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dataflows.serving import ServingReader
from ops.demo.history import HistorySpec
from ops.demo.rehearsal import history_until
from tests.support.command_line import materia

ROWS, RELEASES = 20_000, 3


@dataclass(frozen=True)
class ServedDemo:
    """Three monthly releases of 20,000 facts, three generations; coffee is re-keyed in the last release.

    `data_dir` is shared by the whole session: read it, and `copy` it to write.
    """

    data_dir: Path
    spec: HistorySpec
    stdout: str
    """What the demo printed."""

    @property
    def serving_path(self) -> Path:
        return self.data_dir / "serving.duckdb"

    def copy(self, to: Path) -> Path:
        """A data directory of one's own, with the same contents."""
        return Path(shutil.copytree(self.data_dir, to, symlinks=True))

    def rows(self, sql: str) -> list[dict[str, object]]:
        with ServingReader(self.serving_path) as reader:
            return reader.query(sql).table.to_pylist()


def run_demo(data_dir: Path) -> ServedDemo:
    """Run `materia demo` small; about half a minute."""
    spec = history_until(datetime.now(UTC), "psd_alldata", ROWS, RELEASES)
    arguments = ("demo", "--rows", str(ROWS), "--releases", str(RELEASES), "--keep", str(data_dir))
    done = materia(data_dir.with_name("not-used"), *arguments, timeout_s=300)
    assert (done.returncode, done.stderr) == (0, "")
    return ServedDemo(data_dir, spec, done.stdout)

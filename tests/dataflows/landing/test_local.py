import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from dataflows.errors import LandingError, SnapshotError
from dataflows.landing.local import LocalLanding
from dataflows.source.probe_memory import LiveCheck
from tests.dataflows.conftest import MONTH, POSTED_AT, tree
from tests.support.psd_files import DATASET, release_zip, rows

EXTRACTING = """
import os, signal, sys
from datetime import datetime, timezone
from pathlib import Path
from dataflows import driver, extract, files
from dataflows.landing import local as landing
from dataflows.landing.local import LocalLanding
from dataflows.source import psd_zip
from dataflows.source.archive import Archive
from dataflows.source.release import Month

url, base = sys.argv[1], Path(sys.argv[2])
steps = deadly = 0

def dying(name, act):
    def step(*arguments):
        global steps
        for moment in ("before", "after"):
            if moment == "after":
                result = act(*arguments)
            steps += 1
            if steps == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
        return result
    return step

# Every step that the disk sees: files made durable, renamed, directories made durable.
files.sync = dying("sync", files.sync)
landing.move_durably = dying("move", landing.move_durably)
landing.write_durably = dying("write", landing.write_durably)
psd_zip._inflate = dying("inflate", psd_zip._inflate)
psd_zip._to_parquet = dying("parquet", psd_zip._to_parquet)

driver.build(extract)  # imports what it needs, once for all
for deadly in map(int, sys.argv[3:]):
    # A process for each, made before this one has any thread.
    child = os.fork()
    if child == 0:
        inputs = dict(archive=Archive(), archive_url=url, live_url=None, dataset="psd_coffee",
                      newest_month=Month(2025, 11), landing=LocalLanding(base / str(deadly)),
                      landed_at=datetime(2025, 11, 15, tzinfo=timezone.utc))
        driver.execute(extract, "snapshot", inputs)
        os._exit(steps)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def extracting(url: str, base: Path, *deadly: int) -> list[int]:
    """Extract to `base/<n>` for each n, in a process that kills itself at its nth step (0: never).

    Returns the exit codes; that of a process that lived is the number of its steps.
    """
    command = [sys.executable, "-c", EXTRACTING, url, str(base), *map(str, deadly)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def test_a_process_killed_at_any_step_leaves_nothing_half_landed(coffee, tmp_path, extracted):
    coffee.post(MONTH, release_zip(), POSTED_AT, etag='"one"')
    (steps,) = extracting(coffee.url, tmp_path, 0)
    right = tree(tmp_path / "0")
    (key,) = {snapshot.key for snapshot in LocalLanding(tmp_path / "0").snapshots()}
    assert steps > 15
    killed = range(1, steps + 1, 3)  # an odd stride: both sides of every rename are met
    assert set(extracting(coffee.url, tmp_path, *killed)) == {-signal.SIGKILL}
    committed = 0
    for deadly in killed:
        root = tmp_path / str(deadly)
        landing = LocalLanding(root)
        found = landing.snapshots()
        committed += len(found)
        if found:
            assert landing.zip_path(key).read_bytes() == right[f"psd/{key}.zip"]
            assert landing.rows_path(found[0]).exists()
        assert extracted(landing=landing).is_new == (not found)
        assert tree(root) == right
    assert 0 < committed < len(killed) / 2


def test_a_snapshot_is_seen_only_with_its_marker(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT, etag='"one"')
    landed = extracted().snapshot
    landing.marker_path(landed.key).unlink()
    assert (landing.snapshots(), landing.find(landed.key)) == ((), None)
    assert extracted().snapshot == landed


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b"\xff", b'{"key": 1}', b'{"released_on": 5}'])
def test_a_broken_marker_is_named(landing, text):
    landing.marker_path("one").parent.mkdir(parents=True)
    landing.marker_path("one").write_bytes(text)
    for look in (landing.snapshots, lambda: landing.find("one")):
        with pytest.raises(LandingError, match=r"one\.json is not a snapshot marker"):
            look()


def test_lost_rows_are_rebuilt_from_the_zip(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    snapshot = extracted().snapshot
    before = tree(landing.root)
    landing.rows_path(snapshot).unlink()
    landing.ready_rows("psd_other")
    assert not landing.rows_path(snapshot).exists()
    landing.ready_rows(DATASET)
    assert tree(landing.root) == before


def test_a_lost_zip_and_a_changed_one_are_named(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(rows(5)), POSTED_AT, etag='"one"')
    snapshot = extracted().snapshot
    landing.rows_path(snapshot).unlink()
    landing.zip_path(snapshot.key).write_bytes(release_zip(rows(6)))
    with pytest.raises(SnapshotError, match=rf"{snapshot.key}\.zip is no longer what was landed"):
        landing.ready_rows(DATASET)
    landing.zip_path(snapshot.key).unlink()
    with pytest.raises(LandingError, match=rf"{snapshot.key}\.zip is missing"):
        landing.ready_rows(DATASET)


def test_any_bytes_of_a_landed_zip_can_be_read(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    snapshot = extracted().snapshot
    whole = landing.zip_path(snapshot.key).read_bytes()
    for start_bytes, count in ((0, 4), (7, 20), (len(whole) - 3, 100), (len(whole), 1)):
        assert landing.zip_bytes(snapshot, start_bytes, count) == whole[start_bytes : start_bytes + count]


def test_a_new_folder_can_hold_rows_and_marker_of_a_zip_stored_elsewhere(coffee, extracted, landing, tmp_path):
    """As the cache of a bucket does."""
    coffee.post(MONTH, release_zip(), POSTED_AT)
    snapshot = extracted().snapshot
    rows_path = LocalLanding(tmp_path / "rows" / "new").rows_file(snapshot, landing.zip_path(snapshot.key))
    assert rows_path.read_bytes() == landing.rows_path(snapshot).read_bytes()
    other = LocalLanding(tmp_path / "marker" / "new")
    other.write_marker(snapshot)
    assert other.snapshots() == (snapshot,)


def test_the_result_of_a_probe_is_stored_before_the_first_landing(tmp_path):
    landing = LocalLanding(tmp_path / "new" / "landing")
    check = LiveCheck(date(2025, 11, 14), "key")
    landing.update_memory(DATASET, lambda memory: replace(memory, live=check))
    assert landing.live_check(DATASET) == check
    assert landing.live_check("psd_other") is None


def test_a_landing_that_cannot_be_written_is_a_typed_error(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    landing.root.mkdir()
    (landing.root / "psd").write_text("a file where the folder belongs")
    with pytest.raises(LandingError, match="psd"):
        extracted()


def test_hamilton_loads_no_extension_and_sends_no_telemetry():
    code = (
        "import sys, hamilton.lifecycle\n"
        "from dataflows import driver, extract\n"
        "driver.build(extract)\n"
        "from hamilton import registry\n"
        "print(registry.DF_TYPE_AND_COLUMN_TYPES, 'polars' in sys.modules, 'hamilton.telemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "{} False False", done.stderr

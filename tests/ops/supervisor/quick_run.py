"""A scheduled run that takes no time: `quick_run.py DATA_DIR PIPELINE TRIGGER` does what DATA_DIR/mode says.

It takes the writer's lock and records itself in the journal as `materia` does, and imports nothing but that.
"""

import subprocess
import sys
import time
from pathlib import Path

from dataflows.errors import ArchiveError, LockHeldError
from ops.host.lock import writer_lock
from ops.journal.journal import Journal
from ops.journal.recorder import record_run


def main(data_dir: Path, pipeline: str, trigger: str) -> int:
    mode = (data_dir / "mode").read_text() if (data_dir / "mode").exists() else "done"
    if mode == "settings":
        print("error: PSD_DATASET is wrong", file=sys.stderr)
        return 2
    try:
        with (
            writer_lock(data_dir / "writer.lock", pipeline),
            Journal(data_dir / "runs.sqlite") as journal,
            record_run(journal, pipeline, trigger=trigger),
        ):
            if mode == "failing":
                raise ArchiveError("the archive is down; wait")
            if mode == "stuck":
                subprocess.run(["sleep", "600"], check=True)
            if mode.startswith("takes "):
                time.sleep(float(mode.removeprefix("takes ")))
    except ArchiveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except LockHeldError:
        return 4
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))

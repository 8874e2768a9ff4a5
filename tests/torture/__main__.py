"""`just torture [AREA…] [PYTEST OPTIONS]`: the fault tests in their long form, all areas without one named."""

import os
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from tests.support.torture import VARIABLE

HERE = Path(__file__).parent
AREAS = sorted(path.name for path in HERE.iterdir() if any(path.glob("test_*.py")))


def main(arguments: list[str]) -> int:
    """Run pytest in a fresh process, so that everything, also what is imported by now, knows the length."""
    areas = list(takewhile(lambda each: not each.startswith("-"), arguments))
    options = arguments[len(areas) :]
    # A typing error would otherwise be taken for a file and, worse, be noticed an hour later.
    if unknown := sorted({*areas} - {*AREAS}):
        print(f"there is no area {unknown[0]!r}; there are {', '.join(AREAS)}", file=sys.stderr)
        return pytest.ExitCode.USAGE_ERROR
    environ = os.environ | {VARIABLE: "long"}
    if areas == ["host"]:  # checks of one machine, in order: a line for each, and none counts after one that failed
        options, environ = ["-v", "-x", *options], environ | {"CI": "true"}
    folders = [str(HERE / area) for area in areas or AREAS]
    command = [sys.executable, "-m", "pytest", "--durations=10", *folders, *options]
    sys.stdout.flush()
    os.execve(command[0], command, environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

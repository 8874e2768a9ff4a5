"""A reader in a process of its own that asks without a pause, whatever happens to the writer.

`python -m tests.torture.crash.watching` is that process: a path a line on its standard input says what to watch.
"""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ops.config.settings import PROJECT_DIR

_PAUSE_S = 0.01


@dataclass(frozen=True)
class Seen:
    """What a reader saw: the generations in the order it met them, and what was wrong with an answer."""

    numbers: tuple[int, ...]
    wrong: tuple[str, ...]
    answers: int


class Watcher:
    """Watches one serving path at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.crash.watching"],
            cwd=PROJECT_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def watch(self, serving_path: Path) -> None:
        """Begin; returns once the first answer is there."""
        self._say(str(serving_path))
        self._process.stdout.readline()

    def seen(self) -> Seen:
        """Stop, and tell."""
        self._say("")
        answered = json.loads(self._process.stdout.readline())
        return Seen(tuple(answered["numbers"]), tuple(answered["wrong"]), answered["answers"])

    def _say(self, line: str) -> None:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


def _watch(path: Path, stop: threading.Event, started: threading.Event) -> dict[str, object]:
    from dataflows.errors import ServingError, ServingMissingError
    from dataflows.serving import ServingReader

    numbers: list[int] = []
    wrong: list[str] = []
    answers = 0
    with ServingReader(path) as reader:
        while not stop.is_set():
            try:
                answer = reader.query("SELECT created_at FROM serving.generation")
                counted = reader.query("SELECT count(*) AS rows, count(value) AS known FROM serving.fct_psd")
                answers += 1
                (answered,), (rows,) = answer.table.to_pylist(), counted.table.to_pylist()
                if answered["created_at"] != answer.generation.created_at.replace(tzinfo=None):
                    wrong.append(f"{answer.generation.number} answers with what was made at {answered['created_at']}")
                if rows["rows"] != counted.generation.row_counts["fct_psd"]:
                    wrong.append(f"{counted.generation.number} has {rows['rows']} rows")
                numbers += [each.generation.number for each in (answer, counted)]
                numbers[:] = [n for place, n in enumerate(numbers) if place == 0 or numbers[place - 1] != n]
            except ServingMissingError as error:
                if numbers:
                    wrong.append(str(error))
            except ServingError as error:
                wrong.append(str(error))
            started.set()
            time.sleep(_PAUSE_S)
    return {"numbers": numbers, "wrong": wrong[:5], "answers": answers}


def main() -> None:
    with ThreadPoolExecutor(1) as pool:
        while path := sys.stdin.readline().strip():
            stop, started = threading.Event(), threading.Event()
            watching = pool.submit(_watch, Path(path), stop, started)
            started.wait(60)
            print("started", flush=True)
            sys.stdin.readline()
            stop.set()
            print(json.dumps(watching.result()), flush=True)


if __name__ == "__main__":
    main()

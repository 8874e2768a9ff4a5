"""Every command with invalid arguments: a known exit code, in time, never a traceback."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ops.cli import COMMANDS, materia
from ops.host.exits import Exit
from tests.support.torture import Figure, count

CALLS = """
import contextlib, io, json, sys, time
from ops.cli import main
for line in sys.stdin.read().splitlines():  # a command may read it, too
    said, began = io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(json.loads(line))
        except BaseException as error:
            code = repr(error)
    print(json.dumps([code, said.getvalue()[-3000:], time.monotonic() - began]), flush=True)
"""
HARMLESS = {
    *(("status",), ("runs",), ("runs", "show"), ("releases",), ("serving", "list"), ("serving", "verify")),
    *(("serving", "rollback"), ("secrets", "check"), ("landing", "list"), ("dag",), ("completion",)),
    *(("pipeline", "list"), ("query",)),
}
"""Commands that may run to their end here; all others also get an option that none has."""
RUBBISH = (
    *(
        "",
        " ",
        "-",
        "--",
        "-1",
        "0",
        "1",
        "99999999999999999999",
        "1e999",
        "nan",
        "inf",
        "\u00b2",
        "0x10",
        "1_0",
        "~",
        "/",
    ),
    *("..", "../../etc/passwd", "/dev/null", "/dev/full", "/proc/x", "x" * 5000, "$(id)", "`id`", ";", "|", "'", '"'),
    *("\n", "\t", "\x7f", "\u202e", "\udcff", "2025-13", "0000-00", "9999-12", "2025-11", "svg", "extract", "hetzner"),
    *("--help", "--json", "--debug", "--no-such-option", "-o", "--limit", "--format=", "@/etc/passwd", "%s", "{}"),
)


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its words."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))


def calls(chance: random.Random, of_each: int) -> Iterator[list[str]]:
    """Arguments for every command: its own options with rubbish for values, and rubbish alone."""
    for path, command in commands(materia):
        options = [option for each in command.params for option in each.opts if option.startswith("-")]
        for _ in range(of_each):
            words: list[str] = []
            for _ in range(chance.randrange(4)):
                words += [chance.choice(options), chance.choice(RUBBISH)] if options and chance.random() < 0.5 else []
                words += [chance.choice(RUBBISH)] if chance.random() < 0.5 else []
            if path not in HARMLESS:
                words.insert(0, "--no-such-option")
            yield [*path, *words]


def test_every_command_is_known_here() -> None:
    assert {path[0] for path, _ in commands(materia)} == set(COMMANDS)
    assert {path for path, _ in commands(materia)} >= HARMLESS


def test_any_arguments_end_in_a_known_exit_code_without_a_traceback(tmp_path: Path, figure: Figure) -> None:
    given = list(calls(random.Random(7), count(4, 200)))
    known = {int(code) for code in Exit}
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        input="".join(json.dumps(words) + "\n" for words in given),
        env={**os.environ, "MATERIA_DATA_DIR": str(tmp_path / "data"), "HETZNER_TOKEN": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=count(180, 7200),
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(given), done.stderr[-2000:]
    wrong = [
        (words, code, output)
        for words, (code, output, took_s) in zip(given, answers, strict=True)
        if code not in known
        or "error: unexpected" in output
        or ("Traceback" in output and "--debug" not in words)
        or took_s > 30
    ]
    assert wrong == []
    assert not (tmp_path / "data" / "landing").exists() and not (tmp_path / "data" / "lakehouse.duckdb").exists()
    figure("command lines tried", len(given))

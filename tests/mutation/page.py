"""docs/explanation/mutants.md, made from the recorded results."""

import json
from pathlib import Path

from tests.mutation.targets import AIM, MOST, RESULTS, SAMPLE, TARGETS

INTRODUCTION = f"""\
# Tests that notice

A mutant is a copy of the code with one change: `<=` for `<`, `or` for `and`, another number, a negated condition, an
exception that is not caught, a loop that does not run, a call that is left out; in SQL another comparison, day,
condition, default, order or join. A mutant is *killed* when a test beside the module fails. At least {AIM:.0%} of the
mutants of each module below must be killed; each survivor is listed with its reason. Text of messages, decorators and
type annotations are not mutated. Of a module with more than {MOST} mutants {SAMPLE} are tested, taken evenly over its
lines (`{SAMPLE} of …`).

`just mutants [MODULE…]` measures with [cosmic-ray](https://cosmic-ray.readthedocs.io) and writes this page. It is not
part of CI: a module takes minutes to an hour. It works on a copy in `.mutants/`, goes on where it was interrupted, and
tests survivors again, as tests may have been added.
"""


def read_results(checkout: Path) -> dict:
    """What was recorded so far, by module."""
    path = checkout / RESULTS
    return json.loads(path.read_text()) if path.exists() else {}


def page_of(results: dict) -> str:
    """The whole page."""
    lines = ["| module | tests | mutants | killed | survivors |", "|---|---|---:|---:|---:|"]
    for name, target in TARGETS.items():
        tests = ", ".join(f"`{each}`" for each in target.tests)
        if name in results:
            tested, of, survivors = results[name]["mutants"], results[name]["of"], len(results[name]["survivors"])
            mutants = str(tested) if tested == of else f"{tested} of {of}"
            figures = f"{mutants} | {killed_share(results[name]):.1%} | {survivors}"
        else:
            figures = "not measured | | "
        lines.append(f"| `{target.module}` | {tests} | {figures} |")
    parts = [INTRODUCTION, "\n".join(lines) + "\n", "## Survivors\n"]
    for name, result in results.items():
        rows = [
            f"| {_code(each['was'])} | {_code(each['becomes'])} | {each['reason']} |" for each in result["survivors"]
        ]
        if rows:
            head = ["| code | mutant | why no test fails |", "|---|---|---|"]
            parts.append(f"### `{TARGETS[name].module}`\n\n" + "\n".join(head + rows) + "\n")
    return "\n".join(parts)


def killed_share(result: dict) -> float:
    """The share of a module's mutants that was killed."""
    return 1 - len(result["survivors"]) / result["mutants"]


def _code(line: str) -> str:
    return f"`` {line.replace('|', chr(92) + '|')} ``"

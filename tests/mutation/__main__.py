"""`just mutants [MODULE…]`: mutate modules and record in docs/explanation/mutants.md which mutants no test notices.

cosmic-ray makes the mutants and keeps the outcomes, a database per version of a module in `.mutants/`, so that an
interrupted run goes on where it was. Mutants are written to a copy of the checkout, never to the checkout. Each is
tested by pytest in a forked process, which spares the start of Python and of the libraries. A mutant that survived
is tested again by the next run, as tests may have been added since.
"""

import compileall
import gc
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.mutation.targets import AIM, MOST, PROJECT, RESULTS, SAMPLE, TARGETS, Target

VARIABLE = "MATERIA_MUTANTS"
"""Set in the process that works in the copy: the checkout that was copied."""
LEAST_TIMEOUT_S = 10
TIMEOUT_FACTOR = 6
"""A mutant is killed when its tests take so many times as long as without it."""
MOST_FIRST = 6
"""How many of the tests that noticed earlier mutants run before the others."""
FAILED = PROJECT.parent / "failed.txt"
"""The test that failed, written by the process that ran it; beside the copy."""
LOADED = PROJECT.parent / "loaded.txt"
"""The modules of others that the last process of tests had loaded."""

OPERATORS = (
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("GtE_Gt", "GtE_Lt", "Eq_NotEq", "NotEq_Eq")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Is_IsNot", "IsNot_Is")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "Mod_Add")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("FloorDiv_Mul", "BitAnd_BitOr")),
    *("AddNot", "ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_USub_UAdd", "ReplaceAndWithOr"),
    *("ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceBreakWithContinue"),
    *("ReplaceContinueWithBreak", "NumberReplacer", "ZeroIterationForLoop"),
)
"""Those of cosmic-ray whose mutants run: most others (`x << y` for `x + y`, `int & None`) end in a TypeError."""


def main(arguments: list[str]) -> int:
    """Work in a copy; returns 1 when a module misses the aim."""
    if unknown := sorted({*arguments} - {*TARGETS}):
        print(f"there is no module {unknown[0]!r}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    checkout = os.environ.get(VARIABLE)
    if checkout is None:
        tree = _copy_of(PROJECT)
        # A mutant of the same size and second as the last one would be run from the last one's bytecode.
        environ = {**os.environ, VARIABLE: str(PROJECT), "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        # Hamilton would import every library that it knows, among them one that does not import beside numpy 2.
        environ["HAMILTON_AUTOLOAD_EXTENSIONS"] = "0"
        sys.stdout.flush()
        os.chdir(tree)
        os.execve(sys.executable, [sys.executable, "-m", "tests.mutation", *arguments], environ)
    _check_operators()
    # The shares are listed at the end, as the list of survivors may be long.
    shares = {name: _measure(name, Path(checkout)) for name in arguments or TARGETS}
    for name, share in shares.items():
        print(f"{name}: {share:.1%} killed")
    return int(any(share < AIM for share in shares.values()))


def _check_operators() -> None:
    """Fail unless each operator of our own makes the mutants of its examples."""
    from cosmic_ray.mutating import mutate_code

    from tests.mutation.operators import Provider

    for operator in map(Provider().__getitem__, Provider()):
        for example in operator.examples():
            mutated = mutate_code(example.pre_mutation_code, operator(), example.occurrence)
            if mutated != example.post_mutation_code:
                raise SystemExit(f"{operator.__name__}: {example.pre_mutation_code!r} became {mutated!r}")


def _copy_of(checkout: Path) -> Path:
    """A copy of all files that Git knows or would add; it replaces the last one."""
    tree = checkout / ".mutants" / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=checkout,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (checkout / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, tree / name)
    # Tests look for real files beside the checkout.
    (tree.parent / "shared").unlink(missing_ok=True)
    (tree.parent / "shared").symlink_to(checkout.parent / "shared")
    return tree


def _measure(name: str, checkout: Path) -> float:
    """Test what is not known to be killed, and record the outcome; the share of mutants that was killed."""
    from cosmic_ray.work_db import use_db

    target = TARGETS[name]
    path = Path(target.module)
    source = path.read_text()
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    with use_db(checkout / ".mutants" / f"{name}-{digest}.sqlite") as database:
        found = _mutants(path)
        mutants = _sample(found)
        if {item.job_id for item in database.work_items} != {item.job_id for item in mutants}:
            database.clear()
            database.add_work_items(mutants)
        compileall.compile_dir(".", quiet=2)
        Path(importlib.util.cache_from_source(target.module)).unlink()
        _preload(target)
        started_at = time.monotonic()
        if outcome := _outcome(target, timeout_s=600):
            raise SystemExit(f"{name}: its tests fail without a mutant ({outcome}); see .mutants/{name}.log")
        _preload_loaded()
        timeout_s = max(LEAST_TIMEOUT_S, TIMEOUT_FACTOR * (time.monotonic() - started_at))
        killed = {job for job, result in database.results if result.is_killed}
        first: list[str] = []
        for number, item in enumerate(mutants, 1):
            if item.job_id not in killed:
                outcome = _test(database, target, item, source, timeout_s, first)
                print(f"{name} {number}/{len(mutants)} {outcome or 'SURVIVED'}", flush=True)
        if outcome := _outcome(target, timeout_s=600):
            database.clear()
            raise SystemExit(f"{name}: its tests failed without a mutant in the end ({outcome}); nothing is measured")
        return _record(name, database, len(found), checkout)


def _sample(mutants: list) -> list:
    """The mutants that are tested, in the order of their lines."""
    ordered = sorted(mutants, key=lambda item: (item.mutations[0].start_pos, item.job_id))
    if len(ordered) <= MOST:
        return ordered
    return [ordered[number * len(ordered) // SAMPLE] for number in range(SAMPLE)]


def _preload(target: Target) -> None:
    """Import what the tests need beyond our own modules, which may be mutated."""
    import pytest

    pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *target.tests])
    # By place, not by name: pytest names a test's module after its folders.
    for name, module in list(sys.modules.items()):
        if _is_ours(module) and "mutation" not in module.__file__:
            del sys.modules[name]


def _preload_loaded() -> None:
    """Import what the tests imported while they ran, such as pandas, which DuckDB loads: seconds for each mutant."""
    for name in LOADED.read_text().split():
        if name not in sys.modules:
            # Some are only there after a call of their package.
            with suppress(ImportError):
                importlib.import_module(name)
    # Otherwise pytest's collections of garbage walk through all of them for each mutant.
    gc.collect()
    gc.freeze()


def _is_ours(module: object) -> bool:
    return (getattr(module, "__file__", None) or "").startswith(str(PROJECT))


def _mutants(path: Path) -> list:
    """All mutants of a module, decorators apart, as cosmic-ray's work items; their ids are the same in every run."""
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.work_item import MutationSpec, WorkItem

    from tests.mutation import operators

    lines = path.read_text().splitlines()
    cosmic_ray.plugins.OPERATOR_PROVIDERS[operators.PLUGIN] = operators.Provider()
    found = []
    for operator in (*(f"core/{each}" for each in OPERATORS), *operators.NAMES):
        maker = cosmic_ray.plugins.get_operator(operator)()
        nodes = ast_nodes(get_ast_from_path(path))
        positions = [position for node in nodes for position in maker.mutation_positions(node)]
        for occurrence, (start, end) in enumerate(positions):
            if lines[start[0] - 1].lstrip().startswith("@"):
                continue
            spec = MutationSpec(path, operator, occurrence, start, end)
            found.append(WorkItem.single(f"{operator}#{occurrence}", spec))
    return found


def _test(database, target: Target, item, source: str, timeout_s: float, first: list[str]) -> str:
    """Test one mutant and record whether it was killed; how its tests ended."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

    (mutation,) = item.mutations
    mutated = mutate_code(source, get_operator(mutation.operator_name)(), mutation.occurrence)
    path = Path(target.module)
    times = path.stat()
    path.write_text(mutated)
    try:
        outcome = _outcome(target, timeout_s, first)
    finally:
        path.write_text(source)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    result = WorkResult(
        WorkerOutcome.NORMAL,
        output=outcome,
        test_outcome=TestOutcome.KILLED if outcome else TestOutcome.SURVIVED,
        diff="\n".join(_changed(source, mutated)),
    )
    database.set_result(item.job_id, result)
    return outcome


def _changed(source: str, mutated: str) -> tuple[str, str]:
    """The first line that differs, before and after."""
    pairs = zip(source.splitlines(), mutated.splitlines(), strict=False)
    return next((was.strip(), now.strip()) for was, now in pairs if was != now)


def _outcome(target: Target, timeout_s: float, first: list[str] | None = None) -> str:
    """How the tests ended; nothing when all passed.

    `first` holds the tests that noticed the last mutants, which are the likeliest to notice this one: they run first,
    and it takes up the test that fails. The slow tests run only when all others passed.
    """
    deadline = time.monotonic() + timeout_s
    if first and (outcome := _outcome_of(target, first, "", deadline)) in {"exit code 1", "timeout"}:
        return outcome
    for chosen in (f"not ({target.slow})", target.slow) if target.slow else ("",):
        if outcome := _outcome_of(target, target.tests, chosen, deadline):
            failed = FAILED.read_text().splitlines()
            if first is not None and failed and failed[0] not in first:
                first[:] = [failed[0], *first][:MOST_FIRST]
            return outcome
    return ""


def _outcome_of(target: Target, tests: Sequence[str], chosen: str, deadline: float) -> str:
    """How those tests that `-k` chooses ended, run in a fork; nothing when all passed."""
    sys.stdout.flush()
    FAILED.write_text("")
    child = os.fork()
    if not child:
        _run_tests(target, tests, chosen)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return f"exit code {code}" if code else ""
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


class _Failures:
    """Plug-in of pytest: writes the names of the tests that fail."""

    @staticmethod
    def pytest_runtest_logreport(report) -> None:
        if report.failed:
            FAILED.write_text(f"{report.nodeid}\n")


def _run_tests(target: Target, tests: Sequence[str], chosen: str) -> None:
    """Run pytest in a process group of its own, its output in a file; never returns."""
    import pytest

    os.setsid()
    log = os.open(f"../{Path(target.module).stem}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 3
    try:
        arguments = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-k", chosen, *tests]
        code = int(pytest.main(arguments, plugins=[_Failures()]))
        LOADED.write_text("\n".join(name for name, module in sys.modules.items() if not _is_ours(module)))
    finally:
        sys.stdout.flush()
        os._exit(code)


def _record(name: str, database, found: int, checkout: Path) -> float:
    """Write a module's outcome beside those of the others; the share of mutants that was killed."""
    from tests.mutation.page import page_of, read_results

    results = read_results(checkout)
    known = {(each["was"], each["becomes"]): each["reason"] for each in results.get(name, {}).get("survivors", ())}
    survivors = []
    for item, result in sorted(database.completed_work_items, key=lambda each: each[0].mutations[0].start_pos):
        if not result.is_killed:
            was, becomes = result.diff.split("\n")
            survivors.append({"was": was, "becomes": becomes, "reason": known.get((was, becomes), "")})
            print(f"{name}: {item.mutations[0].start_pos[0]}: {was}  →  {becomes}")
    results[name] = {"mutants": database.num_work_items, "of": found, "survivors": survivors}
    ordered = {each: results[each] for each in TARGETS if each in results}
    (checkout / RESULTS).write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    (checkout / "docs" / "explanation" / "mutants.md").write_text(page_of(ordered))
    return 1 - len(survivors) / database.num_work_items


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

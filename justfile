# The project's commands. `just` alone lists them; without just on the PATH: `uv run just …`.

set positional-arguments

# Inside `uv run` everything is on the PATH already; outside, uv finds it.
run := if env("VIRTUAL_ENV", "") == justfile_directory() / ".venv" { "" } else { "uv run " }
project := "transform/sqlmesh_materia"
# The tests of a file run in one process, because they share costly fixtures; files start in their order.
side_by_side := "-n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder"

_list:
    @{{ just_executable() }} --list --unsorted

# Publish generated releases from an archive server on this machine, and show the result
demo *args:
    @{{ run }}materia demo "$@"

# Land the newest release from USDA, transform and publish it
run-all *args:
    @{{ run }}materia run-all "$@"

# Land the newest release, without transforming or publishing it
extract *args:
    @{{ run }}materia pipeline run extract "$@"

# Show what is served, how pipelines last ran and what needs attention
status *args:
    @{{ run }}materia status "$@"

# Lint everything and run every test, or with `fast` the quick ones; other arguments go to pytest
test *args: _tools lint
    if [ "${1:-}" = fast ]; then shift; set -- --fast "$@"; fi; {{ run }}pytest {{ side_by_side }} "$@"

# Run every test and record in tests/durations.json what takes long: `just test fast` leaves that out
test-durations:
    {{ run }}pytest {{ side_by_side }} --record-durations

# Run all tests with coverage of the three packages: on the terminal and in coverage.xml
coverage: _tools
    {{ run }}pytest {{ side_by_side }} --cov --cov-report=term --cov-report=xml

# Install the system tools that tests need, where apt can; otherwise their tests are skipped
_tools:
    @{{ run }}python tests/support/system_tools.py install

# Check style and types: Python, shell and SQL
[parallel]
lint: _lint-types _lint-style _lint-sql

_lint-types:
    {{ run }}mypy

_lint-style:
    {{ run }}ruff check .
    {{ run }}ruff format --check .
    {{ run }}shellcheck .ci/run ops/install.sh ops/supervisor/*.sh

_lint-sql:
    SQLMESH_CHECK_COLUMNS=1 {{ run }}sqlmesh -p {{ project }} lint
    {{ run }}sqlmesh -p {{ project }} format --check

# Write requirements.lock and requirements-uv.lock from what pyproject.toml declares
lock:
    {{ run }}python .ci/lock.py write

# Take the newest versions of today: moves `exclude-newer` and writes the lock files
update:
    {{ run }}python .ci/lock.py update
    uv sync

# Look up every dependency's version among the published vulnerabilities; exit code 1: some are known, 3: unknown
audit *args:
    {{ run }}python .ci/audit.py "$@"

# Format Python and SQL, and fix what ruff can fix
format:
    {{ run }}ruff check --fix .
    {{ run }}ruff format .
    {{ run }}sqlmesh -p {{ project }} format

# Draw the dataflows into docs/pictures/; the SVGs need graphviz's `dot`
dag:
    #!/usr/bin/env sh
    set -eu
    mkdir -p docs/pictures
    command -v dot > /dev/null || echo "SVGs not drawn: \`dot\` is missing, install graphviz"
    for name in extract export; do
        for ending in dot mmd $(command -v dot > /dev/null && echo svg); do
            {{ run }}materia dag "$name" -o "docs/pictures/dag-$name.$ending"
        done
    done

# Draw the console into docs/pictures/, on a demo and real runs; needs sshd and chromium. DATA_DIR: a demo that is there
pictures *args:
    PYTHONPATH=. {{ run }}python docs/pictures/screenshots.py "$@"

# Write docs/reference/ from the code: commands, settings, tables, exit codes, errors
reference:
    {{ run }}python docs/reference/generate.py

# Measure every performance bar; one area only: just bench console
bench *args:
    {{ run }}python -m bench "$@"

# Run the fault tests in their long form; one area only: just torture crash
torture *args:
    @{{ run }}python -m tests.torture "$@"

# Change the code one place at a time and list the changes that no test notices; single modules: just mutants caps lock
mutants *args:
    @uv run --group mutants nice -n 19 python -m tests.mutation "$@"

# Run any SQLMesh command on the project, such as `just sqlmesh plan dev_me`
sqlmesh *args:
    {{ run }}sqlmesh -p {{ project }} "$@"

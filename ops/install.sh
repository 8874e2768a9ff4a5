#!/bin/sh
# Installs this checkout into its .venv: the versions and hashes of requirements.lock and nothing else. Needs uv.
#
#   ops/install.sh [EXTRA…]   what production runs, with those extras; without arguments those of MATERIA_EXTRAS
#   ops/install.sh --dev      every extra and the development tools
set -eu
cd "$(dirname "$0")/.."
unset VIRTUAL_ENV CONDA_PREFIX

# shellcheck disable=SC2086  # names apart from each other by spaces
[ "$#" -gt 0 ] || set -- ${MATERIA_EXTRAS-}
uv venv --quiet --allow-existing .venv
# Named, because below `python3 -m uv` uv would take the Python that runs it.
export UV_PYTHON=.venv/bin/python
if [ "${1-}" = --dev ]; then
    uv pip sync --quiet --require-hashes requirements.lock
else
    extras=
    for extra; do extras="$extras --extra $extra"; done
    # shellcheck disable=SC2086  # each extra is a word of its own
    # Compiled once here, not at the start of every run: this user may not be able to write to .venv later.
    uv pip install --quiet --compile-bytecode --exact --require-hashes --constraints requirements.lock \
        --requirements pyproject.toml --group build $extras
fi
# hatchling is installed by now: the build fetches nothing.
uv pip install --quiet --no-deps --no-build-isolation --editable .

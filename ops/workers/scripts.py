"""The bash scripts that run on a worker. They contain no secrets; input comes on file descriptor 3."""

import shlex
from collections.abc import Sequence

# All processes of a session inherit the lock, so it is free when the last of them has ended. A session whose connection
# was lost goes on running here; its retry must not run beside it.
_ALONE = """
umask 077
mkdir -p "$HOME/materia"
exec 9<>"$HOME/materia/session.lock"
if ! flock -n 9; then
  {first}
  flock -w 45 9 || {{ echo "an earlier session is still running" >&2; exit 75; }}
fi
# The process group that `timeout` created for this session.
cut -d " " -f 5 /proc/$$/stat >"$HOME/materia/session.lock"
"""

_END_EARLIER = _ALONE.format(first='kill -KILL -- "-$(cat "$HOME/materia/session.lock")" 2>/dev/null || true')
_AWAIT_EARLIER = _ALONE.format(first=":")

PREPARE = """
if command -v cloud-init >/dev/null; then cloud-init status --wait >/dev/null || true; fi
mkdir -p "$HOME/materia/data"
cd "$HOME/materia"
head -c {size_bytes} <&3 >code.bundle
rm -rf code
git init -q code
cd code
printf %s {shallow} >.git/shallow
[ -s .git/shallow ] || rm .git/shallow
git fetch -q ../code.bundle HEAD
git checkout -q --detach FETCH_HEAD
[ "$(git rev-parse HEAD)" = {commit} ] || {{ echo "the bundle has a different commit" >&2; exit 65; }}
if ! command -v uv >/dev/null; then
  export PATH="$HOME/materia/uv/bin:$PATH"
  command -v uv >/dev/null || {{
    python3 -m venv ../uv
    ../uv/bin/pip install -q --require-hashes -r requirements-uv.lock
  }}
fi
MATERIA_EXTRAS= ops/install.sh{extras} >&2
"""

START = """
cd "$HOME/materia/code"
run=../run
# An earlier session with a lost connection may have started it.
if [ -s $run/events ]; then exit 0; fi
if [ -s $run/pid ]; then pkill -KILL -s "$(cat $run/pid)" || true; fi
rm -rf $run
mkdir -m 700 $run
export MATERIA_DATA_DIR="$HOME/materia/data"
setsid bash -c 'timeout -k 10 {seconds} .venv/bin/python -m ops.workers.remote <&3 >$0/events 2>$0/stderr
  echo $? >$0/exit.new; mv $0/exit.new $0/exit' $run </dev/null >/dev/null 2>&1 9>&- &
echo $! >$run/pid
for _ in $(seq 600); do
  if [ -s $run/events ]; then exit 0; fi
  if [ -s $run/exit ]; then break; fi
  sleep 0.05
done
tail -c 2000 $run/stderr >&2
exit 66
"""

FOLLOW = """
cd "$HOME/materia/run"
tail -c +{first_byte} -s 0.1 --pid="$(cat pid)" -f events
for _ in $(seq 20); do
  if [ -s exit ]; then break; fi
  sleep 0.1
done
echo "exit $(cat exit 2>/dev/null || echo lost)"
"""

STOP = """
cd "$HOME/materia/run" 2>/dev/null || exit 0
[ -s pid ] || exit 0
leader="$(cat pid)"
pkill -TERM -P "$leader" || true
for _ in $(seq {tenths}); do
  kill -0 "$leader" 2>/dev/null || break
  sleep 0.1
done
pkill -KILL -s "$leader" || true
"""


def prepare(size_bytes: int, commit: str, shallow: str, extras: Sequence[str]) -> str:
    """Unpack the code bundle from descriptor 3, check its commit, and install its dependencies.

    Ends processes that an earlier session left running.
    """
    return _END_EARLIER + PREPARE.format(
        size_bytes=size_bytes,
        commit=shlex.quote(commit),
        shallow=shlex.quote(shallow),
        extras="".join(f" {extra}" for extra in extras),
    )


def start(timeout_s: float) -> str:
    """Start the pipeline in a session of its own, with its order from descriptor 3; repeated calls start it once."""
    return _AWAIT_EARLIER + START.replace("{seconds}", str(max(1, round(timeout_s))))


def follow(offset_bytes: int) -> str:
    """Print the events from that offset on, and finally the exit code."""
    return FOLLOW.format(first_byte=offset_bytes + 1)


def stop(grace_s: float) -> str:
    """End the pipeline and its children: SIGTERM first, SIGKILL after `grace_s`."""
    return STOP.format(tenths=max(1, round(grace_s * 10)))

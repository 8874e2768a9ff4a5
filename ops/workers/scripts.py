"""What is said to a worker, as bash. No secret is in any of it; what a script reads comes as its descriptor 3."""

import shlex
from collections.abc import Sequence

# The lock is inherited by everything that a session starts, so it is free when the last of that has ended. A session
# that was cut goes on running here; its retry must not work beside it.
_ALONE = """
umask 077
mkdir -p "$HOME/materia"
exec 9<>"$HOME/materia/session.lock"
if ! flock -n 9; then
  {first}
  flock -w 45 9 || {{ echo "what an earlier session started is still running" >&2; exit 75; }}
fi
# The process group, which `timeout` has made for this session.
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
[ "$(git rev-parse HEAD)" = {commit} ] || {{ echo "this is another commit" >&2; exit 65; }}
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
# An earlier session that was cut may have started it.
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
    """Unpack the bundle that comes on descriptor 3, of exactly that commit, and install what it needs.

    Ends what an earlier session that was cut has left running.
    """
    return _END_EARLIER + PREPARE.format(
        size_bytes=size_bytes,
        commit=shlex.quote(commit),
        shallow=shlex.quote(shallow),
        extras="".join(f" {extra}" for extra in extras),
    )


def start(timeout_s: float) -> str:
    """Start the pipeline, given its order on descriptor 3, apart from this connection; once, however often asked."""
    return _AWAIT_EARLIER + START.replace("{seconds}", str(max(1, round(timeout_s))))


def follow(offset_bytes: int) -> str:
    """Print what it tells from there on, and at the end how it ended."""
    return FOLLOW.format(first_byte=offset_bytes + 1)


def stop(patience_s: float) -> str:
    """End the pipeline and all that it began: asked at first, then killed."""
    return STOP.format(tenths=max(1, round(patience_s * 10)))

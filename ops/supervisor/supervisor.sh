#!/bin/sh
# Keeps this host on the newest commit that works, and lets it tick. May be copied by hand and never needs an
# update: whatever may change lies behind `materia doctor` and `materia supervisor tick` of the commit.
#
#   $MATERIA_HOME/current -> trees/COMMIT   what runs; replaced only by a commit that passed its smoke test
#   $MATERIA_HOME/pin                       if there: the commit to use instead of the branch's newest
set -u

# git asks this very script for name and password, so that the token is in no argument, file or log.
case ${1-} in
    Username*) echo oauth2; exit ;;
    Password*) printf '%s\n' "${GITLAB_READ_TOKEN-}"; exit ;;
esac

home=${MATERIA_HOME:-/opt/materia}
data=${MATERIA_DATA_DIR:-/data/materia}
remote=${MATERIA_REMOTE:?names no git repository to follow}
branch=${MATERIA_BRANCH:-main}
self=$(realpath "$0")
repo=$home/repo.git
current=$home/current
state=$data/supervisor
export MATERIA_DATA_DIR="$data"

# Whoever starts later ends here; so does a restart for as long as a tick of the one before still lives. What that
# one's commands had begun may outlive it for a moment: that is waited for.
mkdir -p "$home/trees" "$state" && cd "$home" || exit 1
exec 9>"$home/supervisor.lock"
flock -w 5 9 || { echo "another supervisor, or a tick of it, works in $home" >&2; exit 4; }
# Nobody else writes to the repository: a lock file in it was left by a git that was killed.
[ ! -d "$repo" ] || find "$repo" -name '*.lock' -delete

say() { echo "supervisor.sh: $*" >&2; }

# In the background and waited for: so a signal lands at once, and not when the command ends.
child=
run() {
    [ -z "${NOTIFY_SOCKET-}" ] || systemd-notify WATCHDOG=1
    "$@" &
    child=$!
    wait "$child"
    code=$?
    child=
    return "$code"
}
stop() {
    trap '' TERM INT HUP
    [ -z "$child" ] || { kill -TERM "$child" 2>/dev/null; wait "$child"; }
    exit 143
}
trap stop TERM INT HUP

fetch() {
    [ -d "$repo" ] || git init --quiet --bare "$repo" || return
    # No redirect is followed: it could lead the token to somebody else.
    run env GIT_ASKPASS="$self" GIT_TERMINAL_PROMPT=0 timeout -k 5 120 \
        git -C "$repo" -c http.followRedirects=false -c credential.helper= -c gc.autoDetach=false \
        fetch --quiet --no-tags "$remote" "+refs/heads/$branch:refs/materia/newest"
}

# Check out a commit beside the others, install it, and see that it works; `step` says how far it came.
prepare() {
    tree=$home/trees/$1
    [ ! -e "$tree/.good" ] || return 0
    step=checkout
    rm -rf "$tree" && git -C "$repo" worktree prune || return
    run git -C "$repo" worktree add --quiet -f -f --detach "$tree" "$1" || return
    step='ops/install.sh'
    run env -u GITLAB_READ_TOKEN timeout -k 5 900 "$tree/ops/install.sh" || return
    step='materia doctor'
    run env -u GITLAB_READ_TOKEN timeout -k 5 300 "$tree/.venv/bin/materia" doctor || return
    touch "$tree/.good"
}

# The writer's lock is free exactly when no pipeline is under way, and held for the moment of the switch.
switch() {
    old=$(readlink "$current")
    ln -sfn "trees/$1" "$current.new" && flock -n "$data/writer.lock" mv -T "$current.new" "$current" || return
    [ -z "$old" ] || ln -sfn "$old" "$home/previous"
    for tree in "$home"/trees/*; do
        case trees/${tree##*/} in
            "trees/$1" | "$old") ;;
            *) rm -rf "$tree" ;;
        esac
    done
    say "now at $1"
}

update() {
    if fetch; then touch "$state/fetched"; else say "cannot fetch $branch; working on with what is here"; fi
    pin=$(cat "$home/pin" 2>/dev/null)
    commit=$(git -C "$repo" rev-parse --verify --quiet "${pin:-refs/materia/newest}^{commit}") || return
    if [ "trees/$commit" = "$(readlink "$current")" ] && [ -e "$current/.good" ]; then rm -f "$state/refused"; return; fi
    # What was refused is tried again after an hour: the reason may have been this host, or the network.
    if grep -qs "^$commit" "$state/refused" && [ -n "$(find "$state/refused" -mmin -60)" ]; then return; fi
    if prepare "$commit" > "$home/update.log" 2>&1; then
        switch "$commit" && rm -f "$state/refused"
    else
        echo "$commit: $step failed: $(tail -n 1 "$home/update.log")" > "$state/refused.new"
        mv "$state/refused.new" "$state/refused"
        say "refused $(cat "$state/refused")"
    fi
}

[ -z "${NOTIFY_SOCKET-}" ] || systemd-notify --ready
while :; do
    update
    tree=$(readlink -f "$current") && [ -x "$tree/.venv/bin/materia" ] &&
        run env -u GITLAB_READ_TOKEN "$tree/.venv/bin/materia" supervisor tick
    run sleep "${MATERIA_TICK_S:-60}"
done

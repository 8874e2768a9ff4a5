#!/bin/sh
# Keeps this host on the newest commit that works, and runs its ticks. Can be copied by hand and never needs an
# update: all policy is in `materia doctor`, `materia status` and `materia supervisor tick` of the commit. This loop
# only counts: after three consecutive failed ticks it refuses the commit and returns to the previous one.
#
#   $MATERIA_HOME/current -> trees/COMMIT   the commit in use; replaced only by a commit that passed its smoke test
#   $MATERIA_HOME/pin                       optional: the commit to use instead of the branch's newest
set -u

# git calls this script for user name and password, so that no argument, file or log contains the token.
case ${1-} in
    Username*) echo oauth2; exit ;;
    Password*) printf '%s\n' "${GITLAB_READ_TOKEN-}"; exit ;;
esac

home=${MATERIA_HOME:-/opt/materia}
data=${MATERIA_DATA_DIR:-/data/materia}
remote=${MATERIA_REMOTE:?is not set to a git repository}
branch=${MATERIA_BRANCH:-main}
self=$(realpath "$0")
repo=$home/repo.git
current=$home/current
state=$data/supervisor
silent=$((2 * ${MATERIA_TICK_SILENT_S:-600}))
export MATERIA_HOME="$home" MATERIA_DATA_DIR="$data"

# One supervisor per home. A restart waits briefly for processes that a killed supervisor left running.
mkdir -p "$home/trees" "$state" && cd "$home" || exit 1
exec 9>"$home/supervisor.lock"
flock -w 5 9 || { echo "another supervisor or tick is running in $home" >&2; exit 4; }
# Only this script writes to the repository, so a lock file in it is left over from a killed git.
[ ! -d "$repo" ] || find "$repo" -name '*.lock' -delete

say() { echo "supervisor.sh: $*" >&2; }

# Runs a command in the background and waits, so that a signal is handled immediately.
child=
run() {
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
    rm -f "$state/failing"
    exit 143
}
trap stop TERM INT HUP

fetch_into() {
    [ -d "$1" ] || git init --quiet --bare "$1" || return
    # Redirects are not followed: they could send the token to another host.
    run env GIT_ASKPASS="$self" GIT_TERMINAL_PROMPT=0 timeout -k 5 120 \
        git --git-dir="$1" -c http.followRedirects=false -c credential.helper= -c gc.autoDetach=false \
        fetch --quiet --no-tags "$remote" "+refs/heads/$branch:refs/materia/newest"
}

# repo.git is a cache. If using it fails and a fresh one can be fetched, the old one was damaged. Trees stay registered.
renew() {
    rm -rf "$repo.new" "$repo.old"
    fetch_into "$repo.new" || return
    [ ! -d "$repo/worktrees" ] || cp -R "$repo/worktrees" "$repo.new/"
    mv "$repo" "$repo.old" && mv "$repo.new" "$repo" && rm -rf "$repo.old" && say "repo.git was damaged: fetched again"
}

is_ready() { [ -e "$1/.good" ] && [ -x "$1/.venv/bin/materia" ]; }

checkout() {
    rm -rf "$home/trees/$1" && git --git-dir="$repo" worktree prune &&
        run git --git-dir="$repo" worktree add --quiet -f -f --detach "$home/trees/$1" "$1"
}

install() { run env -u GITLAB_READ_TOKEN timeout -k 5 900 "$1/ops/install.sh"; }
materia() { run env -u GITLAB_READ_TOKEN timeout -k 5 300 "$tree/.venv/bin/materia" "$@"; }

# Checks out a commit beside the others, installs and tests it; `step` is the last step started.
prepare() {
    tree=$home/trees/$1
    ! is_ready "$tree" || return 0
    step=checkout
    checkout "$1" || { renew && checkout "$1"; } || return
    step='ops/install.sh'
    install "$tree" || return
    step='materia doctor'
    materia doctor || return
    step='materia status'
    materia status --json > /dev/null || [ "$?" -eq 3 ] || return
    step='materia supervisor tick --dry-run'
    materia supervisor tick --dry-run || return
    touch "$tree/.good"
}

# The writer lock is free only while no pipeline runs; it is held during the switch.
switch() {
    old=$(readlink "$current")
    ln -sfn "trees/$1" "$current.new" && flock -n "$data/writer.lock" mv -T "$current.new" "$current" || return
    [ -z "$old" ] || [ "$old" = "trees/$1" ] || ln -sfn "$old" "$home/previous"
    remove_trees
    run git --git-dir="$repo" gc --quiet --prune=now
    say "now at $1"
}

# Keeps only the commit in use and the previous one.
remove_trees() {
    for each in "$home"/trees/*; do
        case trees/${each##*/} in
            "$(readlink "$current")" | "$(readlink "$home/previous")") ;;
            *) rm -rf "$each" ;;
        esac
    done
}

refuse() {
    echo "$1: $2" > "$state/refused.new"
    mv "$state/refused.new" "$state/refused"
    say "refused $1: $2"
}

update() {
    if fetch_into "$repo" || renew; then
        touch "$state/fetched"
    else
        say "cannot fetch $branch; continuing with the commit in use"
    fi
    pin=$(cat "$home/pin" 2>/dev/null)
    commit=$(git --git-dir="$repo" rev-parse --verify --quiet "${pin:-refs/materia/newest}^{commit}") ||
        { say "${pin:-$branch} names no commit in repo.git"; return; }
    if [ "trees/$commit" = "$(readlink "$current")" ] && is_ready "$current"; then
        # Its own refusal is removed by its first successful tick.
        grep -qs "^$commit" "$state/refused" || rm -f "$state/refused"
        return
    fi
    # A refused commit is retried after an hour, because this host or the network may have been the cause.
    if grep -qs "^$commit" "$state/refused" && [ -n "$(find "$state/refused" -mmin -60 ! -newermt now)" ]; then return; fi
    if prepare "$commit" > "$home/update.log" 2>&1; then
        switch "$commit"
    else
        refuse "$commit" "$step failed: $(tail -n 1 "$home/update.log")"
        remove_trees
    fi
}

# Kills a tick that showed no progress for twice the time after which it ends itself: no heartbeat, no output.
end_if_silent() {
    while sleep 5 && kill -0 "$1" 2>/dev/null; do
        [ -z "$(find "$home/tick.log" "$state/heartbeat.json" -newermt "-$silent seconds" 2>/dev/null)" ] || continue
        echo "killed after $silent s without progress" >> "$home/tick.log"
        kill -KILL "$1"
    done
}

# Runs one tick of the commit in use. It is counted before it runs, so that a killed tick counts as failed.
tick() {
    [ -L "$current" ] || return
    tree=$(readlink -m "$current")
    commit=${tree##*/}
    grep -qs "^$commit" "$state/failing" || rm -f "$state/failing"
    echo "$commit" >> "$state/failing"
    env -u GITLAB_READ_TOKEN "$tree/.venv/bin/materia" supervisor tick > "$home/tick.log" 2>&1 &
    child=$!
    end_if_silent "$child" 9>&- &
    watcher=$!
    wait "$child"
    code=$?
    child=
    { kill "$watcher"; wait "$watcher"; } 2>/dev/null
    cat "$home/tick.log" >&2
    case $code in
        0)
            rm -f "$state/failing"
            ! grep -qs "^$commit" "$state/refused" || rm -f "$state/refused"
            ;;
        4) rm -f "$state/failing" ;; # a tick by hand is running
        *) [ "$(wc -l < "$state/failing")" -lt 3 ] || leave "$commit" "$(tail -n 1 "$home/tick.log")" ;;
    esac
}

# Returns to the previous commit; if there is none, installs this one again.
leave() {
    previous=$(readlink "$home/previous")
    if [ "$previous" != "trees/$1" ] && is_ready "$home/$previous"; then
        # While a pipeline runs nothing is switched; the next failed tick retries.
        switch "${previous#trees/}" || return
        rm -f "$home/trees/$1/.good"
        refuse "$1" "materia supervisor tick failed three times: $2"
    else
        say "$1: materia supervisor tick failed three times, and no previous commit is ready: $2"
        rm -f "$state/failing"
        [ ! -x "$tree/ops/install.sh" ] || install "$tree"
    fi
}

[ -z "${NOTIFY_SOCKET-}" ] || systemd-notify --ready
while :; do
    update
    tick
    run sleep "${MATERIA_TICK_S:-60}"
done

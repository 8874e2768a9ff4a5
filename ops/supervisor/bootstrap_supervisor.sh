#!/usr/bin/env bash
# Sets up a Debian host as the supervisor. Safe to run at any time: it changes only what differs.
#
#   ssh root@host 'MATERIA_REMOTE=https://gitlab.example/materia.git bash -s' < bootstrap_supervisor.sh
#   { echo "GITLAB_READ_TOKEN=…"; cat bootstrap_supervisor.sh; } | ssh root@host 'MATERIA_REMOTE=… bash -s'
#
# MATERIA_REMOTE      the git repository to follow; needed the first time, afterwards read from materia.env
# MATERIA_BRANCH      the branch to follow (main)
# GITLAB_READ_TOKEN   reads a private repository; give it over stdin as above, never as an argument
# MATERIA_PREFIX      install everything under this directory (absolute) and do not change the host itself: no
#                     package, user or service (for inspection and tests)
set -euo pipefail

prefix=${MATERIA_PREFIX:-}
home=$prefix/opt/materia
data=$prefix/data/materia
env_file=$prefix/etc/materia/materia.env
repo=$home/repo.git
changed=
cd /

say() { echo "bootstrap: $*"; }

# on_host: skipped under a prefix. as_materia: runs as the service's user.
on_host() { [ -n "$prefix" ] || "$@"; }
as_materia() { if [ -n "$prefix" ]; then "$@"; else runuser -u materia -- env HOME=/opt/materia "$@"; fi; }

install_packages() {
    local missing=() package
    for package in ca-certificates git logrotate openssh-client python3-venv util-linux; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    say "installing ${missing[*]}"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
}

make_user() {
    id materia >/dev/null 2>&1 || useradd --system --home-dir /opt/materia --no-create-home --shell /usr/sbin/nologin materia
}

make_directories() {
    mkdir -p "$home/bin" "$home/cache" "$home/trees" "$data" "$(dirname "$env_file")" "$prefix/etc/systemd/system" "$prefix/etc/logrotate.d"
    on_host chown materia:materia "$home" "$home/bin" "$home/cache" "$home/trees" "$data"
    chmod 0750 "$home" "$data" "$(dirname "$env_file")"
}

# Installs the uv version that the newest commit pins, with its hashes.
install_uv() {
    local lock=$home/uv/requirements-uv.lock draft
    draft=$(mktemp)
    as_materia git --git-dir="$repo" show refs/materia/newest:requirements-uv.lock > "$draft"
    if ! cmp -s "$draft" "$lock"; then
        say "installing $(grep -o '^uv==[^ ]*' "$draft")"
        as_materia python3 -m venv "$home/uv"
        as_materia tee "$lock.new" < "$draft" > /dev/null
        as_materia "$home/uv/bin/pip" install --quiet --require-hashes --requirement "$lock.new"
        as_materia mv "$lock.new" "$lock"
    fi
    rm -f "$draft"
    ln -sfn ../uv/bin/uv "$home/bin/uv"
}

# Sets NAME=VALUE in this host's settings file, which only root can read, unless it is set already.
set_in_env_file() {
    local name=$1 value=$2 line
    case $value in *$'\n'*) say "$name has more than one line" >&2; exit 2 ;; esac
    line="$name=$value"
    grep -qxF -- "$line" "$env_file" 2>/dev/null && return 0
    (
        umask 077
        { grep -v "^$name=" "$env_file" 2>/dev/null || true; printf '%s\n' "$line"; } > "$env_file.new"
        mv "$env_file.new" "$env_file"
    )
    changed=yes
}

read_env_file() { sed -n "s/^$1=//p" "$env_file" 2>/dev/null | tail -n 1; }

write_env_file() {
    [ -e "$env_file" ] || install -m 0600 /dev/null "$env_file"
    [ -z "${MATERIA_REMOTE:-}" ] || set_in_env_file MATERIA_REMOTE "$MATERIA_REMOTE"
    [ -z "${MATERIA_BRANCH:-}" ] || set_in_env_file MATERIA_BRANCH "$MATERIA_BRANCH"
    [ -z "${GITLAB_READ_TOKEN:-}" ] || set_in_env_file GITLAB_READ_TOKEN "$GITLAB_READ_TOKEN"
    remote=$(read_env_file MATERIA_REMOTE)
    branch=$(read_env_file MATERIA_BRANCH)
    token=$(read_env_file GITLAB_READ_TOKEN)
    [ -n "$remote" ] || { say "MATERIA_REMOTE is not set; set it to the git repository to follow" >&2; exit 2; }
}

# git gets the token through the environment and an askpass script: no argument and no file contains it.
fetch() {
    local askpass=$home/bin/askpass
    cat > "$askpass.new" <<'END'
#!/bin/sh
case $1 in Username*) echo oauth2 ;; *) printf '%s\n' "$GITLAB_READ_TOKEN" ;; esac
END
    chmod 0755 "$askpass.new"
    mv "$askpass.new" "$askpass"
    fetch_into "$repo" || renew
}

fetch_into() {
    { [ -d "$1" ] || as_materia git init --quiet --bare "$1"; } &&
        GITLAB_READ_TOKEN=$token GIT_ASKPASS=$askpass GIT_TERMINAL_PROMPT=0 as_materia timeout -k 5 300 \
            git --git-dir="$1" -c http.followRedirects=false -c credential.helper= fetch --quiet --no-tags "$remote" \
            "+refs/heads/${branch:-main}:refs/materia/newest" &&
        as_materia git --git-dir="$1" cat-file blob refs/materia/newest:ops/supervisor/supervisor.sh > /dev/null
}

# As in supervisor.sh: the repository is a cache; if it is damaged, it is fetched again.
renew() {
    as_materia rm -rf "$repo.new" "$repo.old"
    fetch_into "$repo.new" || { say "cannot fetch ${branch:-main} of $remote" >&2; exit 1; }
    [ ! -d "$repo/worktrees" ] || as_materia cp -R "$repo/worktrees" "$repo.new/"
    as_materia mv "$repo" "$repo.old"
    as_materia mv "$repo.new" "$repo"
    as_materia rm -rf "$repo.old"
    say "$repo was damaged: fetched again"
}

# Installs a file of the newest commit, unless it is there already.
install_from_commit() {
    local source=ops/supervisor/$1 target=$2 mode=$3 draft
    draft=$(mktemp)
    as_materia git --git-dir="$repo" show "refs/materia/newest:$source" > "$draft"
    if ! cmp -s "$draft" "$target"; then
        say "installing $target"
        install -m "$mode" "$draft" "$target.new"
        mv "$target.new" "$target"
        changed=yes
    fi
    rm -f "$draft"
}

start() {
    systemctl daemon-reload
    systemctl enable --quiet materia-supervisor
    if [ -n "$changed" ]; then systemctl restart materia-supervisor; else systemctl start materia-supervisor; fi
    systemctl is-active --quiet materia-supervisor
}

main() {
    on_host install_packages
    on_host make_user
    make_directories
    write_env_file
    fetch
    on_host install_uv
    install_from_commit supervisor.sh "$home/supervisor.sh" 0755
    install_from_commit materia-supervisor.service "$prefix/etc/systemd/system/materia-supervisor.service" 0644
    install_from_commit materia-health.service "$prefix/etc/systemd/system/materia-health.service" 0644
    install_from_commit materia.logrotate "$prefix/etc/logrotate.d/materia" 0644
    on_host start
    say "${changed:+changed, }ready: follows ${branch:-main} of $remote"
}

main

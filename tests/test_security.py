"""What keeps a secret secret, a file ours, and a name a name, whatever is in it."""

import ast
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from detect_secrets import SecretsCollection
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.settings import transient_settings

from dataflows.landing.local import LocalLanding
from dataflows.serving import ServingReader
from dataflows.source.psd_zip import unpack
from dataflows.source.release import Month
from ops.config.settings import PROJECT_DIR as PROJECT
from ops.workers import scripts
from tests.dataflows.serving.building import ROWS, published_store
from tests.support.command_line import MATERIA
from tests.support.faulty_archive import FaultyArchive
from tests.support.needs import require_tool
from tests.support.psd_files import DATASET, MEMBER, release_zip, rows
from tests.support.seen_secrets import secrets_in_processes
from tests.support.torture import count

HOSTILE = "it's; touch canary #$(touch canary)`touch canary`\"&|>canary\n*?[a-z]{x}\\"
"""A name that does something wherever it is not quoted."""

STARTERS = {"run", "Popen", "call", "check_call", "check_output"}
FORBIDDEN = {
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *("eval", "exec", "compile", "pickle.load", "pickle.loads", "marshal.loads", "yaml.load", "shelve.open"),
}

GUESSES = ("KeywordDetector", "BasicAuthDetector", "Base64HighEntropyString", "HexHighEntropyString")
"""What looks for secrets of no known form."""

NO_SECRETS = {
    ("ops/cli/__init__.py", "Secret Keyword"): "the name of a command's module",
    ("ops/config/object_storage.py", "Secret Keyword"): "what a setting means",
    ("ops/config/settings.py", "Secret Keyword"): "what a setting means",
    ("ops/workers/view.py", "Secret Keyword"): "how to start a command",
    ("tests/ops/demo/test_generator.py", "Hex High Entropy String"): "a digest of generated data",
    ("tests/ops/health/test_doctor.py", "Secret Keyword"): "invented, to be looked for",
    ("tests/ops/supervisor/test_ducklake.py", "Secret Keyword"): "invented, to be looked for",
    ("tests/ops/config/test_spark.py", "Secret Keyword"): "invented, to be looked for",
    ("tests/r2/test_odd_answers.py", "Hex High Entropy String"): "an ETag of no file",
    ("tests/ops/host/test_logs.py", "Secret Keyword"): "invented, to be redacted",
    ("tests/ops/workers/test_ssh.py", "Secret Keyword"): "invented, to be looked for",
    ("tests/ops/workers/test_worker_commands.py", "Secret Keyword"): "invented, to be looked for",
    ("tests/support/clouds.py", "Secret Keyword"): "invented, to be looked for",
    ("tests/support/postgres_server.py", "Secret Keyword"): "invented, to be looked for",
    ("tests/torture/hostile/test_http.py", "Basic Auth Credentials"): "invented, to be refused",
    ("tests/tui/widgets/test_log_line.py", "Secret Keyword"): "invented, to be redacted",
}
"""What looks like a secret and is none, and why."""


def git(*arguments: str, repository: Path = PROJECT) -> str:
    require_tool("git")
    done = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, check=True, timeout=120)
    return done.stdout.decode(errors="replace")


def tracked(*patterns: str) -> list[Path]:
    return [PROJECT / name for name in git("ls-files", "-z", "--", *patterns).split("\0") if name]


def sources() -> list[Path]:
    return [path for path in tracked("*.py") if path.relative_to(PROJECT).parts[0] != "tests"]


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a module, with the name of what is called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_code_starts_a_shell_or_evaluates_text() -> None:
    wrong, started = [], 0
    for path in sources():
        for name, call in calls(path):
            where = f"{path.relative_to(PROJECT)}:{call.lineno}"
            if name in FORBIDDEN:
                wrong.append(f"{where} calls {name}")
            if name.startswith("subprocess.") and name.removeprefix("subprocess.") in STARTERS:
                started += 1
                if any(keyword.arg in ("shell", "executable", None) for keyword in call.keywords):
                    wrong.append(f"{where} may start a shell")
                if isinstance(call.args[0], ast.Constant | ast.JoinedStr | ast.BinOp):
                    wrong.append(f"{where} gives a command as text")
    assert wrong == []
    assert started >= 10


def test_a_shell_is_named_only_where_a_script_is_sent_to_another_machine() -> None:
    words = {"sh", "bash", "/bin/sh", "/bin/bash"}
    naming = {
        str(path.relative_to(PROJECT))
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in words
    }
    assert naming <= {"ops/cli/completion.py", "bench/pipelines.py"}


def test_hostile_names_in_a_workers_script_stay_what_they_are(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "commit").write_text(HOSTILE)
    (programs / "git").write_text(
        "#!/bin/sh\n"
        'case $1 in init) mkdir -p "$3/.git" "$3/ops"; ln -s /bin/true "$3/ops/install.sh" ;; '
        'rev-parse) cat "$COMMIT" ;; esac\n'
    )
    (programs / "uv").write_text("#!/bin/sh\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    script = scripts.prepare(4, HOSTILE, HOSTILE, ())
    done = subprocess.run(
        ["bash", "-c", f"exec 3<&0\nset -eu\n{script}"],
        input=b"code",
        env={"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home), "COMMIT": str(tmp_path / "commit")},
        capture_output=True,
        cwd=home,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (home / "materia/code/.git/shallow").read_text() == HOSTILE
    assert not list(tmp_path.rglob("canary"))
    created = {path: stat.S_IMODE(path.lstat().st_mode) for path in home.rglob("*") if not path.is_symlink()}
    assert {path: mode for path, mode in created.items() if mode & 0o077} == {}


@pytest.mark.parametrize("name", ["MATERIA_BRANCH", "MATERIA_REMOTE", "GITLAB_READ_TOKEN"])
def test_hostile_settings_of_a_supervisors_host_start_nothing(tmp_path: Path, name: str) -> None:
    given = {"MATERIA_REMOTE": str(tmp_path / "nowhere.git"), name: HOSTILE}
    script = PROJECT / "ops/supervisor/bootstrap_supervisor.sh"
    done = subprocess.run(
        ["bash", script],
        env={"PATH": os.environ["PATH"], "MATERIA_PREFIX": str(tmp_path / "host"), **given},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"{name} has more than one line" in done.stderr
    assert not list(tmp_path.rglob("canary"))


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    folder = tmp_path / HOSTILE.replace("/", "_")
    folder.mkdir()
    return folder


def test_a_folder_with_a_hostile_name_is_a_folder(hostile_folder: Path) -> None:
    zip_path, rows_path = hostile_folder / "release.zip", hostile_folder / "rows.parquet"
    zip_path.write_bytes(release_zip(rows(7)))
    assert unpack(zip_path, MEMBER, rows_path).row_count == 7
    store = published_store_in(hostile_folder)
    with ServingReader(store) as reader:
        assert reader.query("SELECT count(*) AS n FROM fct_psd").table.to_pydict() == {"n": [ROWS]}
    assert not (hostile_folder.parent / "canary").exists() and not Path("canary").exists()


def published_store_in(folder: Path) -> Path:
    """A served generation; it is built where names are plain."""
    plain = folder.parent / "plain"
    plain.mkdir()
    store = published_store(plain)
    for path in plain.iterdir():
        path.rename(folder / path.name)
    return folder / store.serving_path.name


def keys_in(text: str) -> set[tuple[str, str]]:
    """What has the form of some service's key, by detect-secrets' own patterns, and how each begins."""
    kinds = get_mapping_from_secret_type_to_class()
    forms = {kind: plugin for kind, plugin in kinds.items() if issubclass(plugin, RegexBasedDetector)}
    assert len(forms) > 15
    found = {
        (kind, match[0][:12])
        for kind, form in forms.items()
        for each in form.denylist
        for match in each.finditer(text)
        if not _in_a_word(text, match.start())
    }
    return {(kind, start) for kind, start in found if kind not in ("Basic Auth Credentials", "Public IP (ipv4)")}


def _in_a_word(text: str, start: int) -> bool:
    """Whether what begins there is the end of a longer word, such as the name of a test."""
    return start > 0 and text[start].isalnum() and text[start - 1].isalnum()


def test_no_tracked_file_holds_a_secret() -> None:
    found = SecretsCollection()
    texts = [path for path in tracked() if path.is_file() and path.suffix != ".svg"]
    with transient_settings({"plugins_used": [{"name": name} for name in GUESSES]}):
        for path in texts:
            found.scan_file(str(path))
    suspects = {(str(Path(name).relative_to(PROJECT)), secret.type) for name, secret in found}
    assert suspects <= set(NO_SECRETS)
    assert keys_in("\n".join(path.read_text(errors="replace") for path in texts)) == set()


def history_of(repository: Path) -> str:
    """Every change that a commit made. Fails in a shallow clone, where most commits are missing."""
    command = ["git", "-C", repository, "rev-parse", "--is-shallow-repository"]
    is_shallow = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    if is_shallow != "false":
        pytest.fail("shallow clone: the history was not scanned for secrets; run `git fetch --unshallow`")
    return git("log", "-p", "--no-color", "--format=%B", "--", ".", ":!*.svg", repository=repository)


def test_a_shallow_clone_is_not_taken_for_a_history_without_keys(tmp_path: Path) -> None:
    git("clone", "--quiet", "--depth=1", f"file://{PROJECT}", str(tmp_path / "shallow"))
    with pytest.raises(pytest.fail.Exception, match="git fetch --unshallow"):
        history_of(tmp_path / "shallow")


def test_no_commit_ever_held_a_key() -> None:
    history = history_of(PROJECT)
    assert keys_in("\n".join(line[1:] for line in history.splitlines() if line.startswith("+"))) == set()


def test_no_tracked_file_names_a_machine_or_a_package_registry() -> None:
    machine = re.compile(r"(?<![\w.{}$~/-])/(?:home|root|Users|work|mnt|media)/[\w.-]+")
    registry = re.compile(r"https?://[\w.-]*(?:pypi|artifactory|nexus|devpi|registry|mirror)[\w.-]*")
    found = set()
    for path in tracked():
        if path.is_file() and path != Path(__file__):
            text = path.read_text(errors="replace")
            found |= {(path.name, match[0]) for pattern in (machine, registry) for match in pattern.finditer(text)}
    assert found == set()
    assert not tracked("uv.lock", "*.pem", "*.key", "*id_ed25519*", "*id_rsa*", ".env", "*.duckdb", "*.sqlite")


def test_a_loose_umask_opens_nothing_to_others(tmp_path: Path) -> None:
    canary = "canary-of-the-umask"
    with FaultyArchive(DATASET) as archive:
        archive.post(Month(2025, 11), release_zip(rows(count(50, 5000))), datetime(2025, 11, 14, 17, tzinfo=UTC))
        done = subprocess.run(
            [MATERIA, "pipeline", "run", "extract", "--as-of", "2025-11"],
            env={
                **os.environ,
                "MATERIA_DATA_DIR": str(tmp_path / "data"),
                "PSD_ARCHIVE_URL": archive.url,
                "PSD_DATASET": DATASET,
                "HETZNER_TOKEN": canary,
                "ALERT_WEBHOOK_URL": f"http://127.0.0.1:9/{canary}",
            },
            umask=0,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert len(LocalLanding(tmp_path / "data/landing").snapshots()) == 1
    created = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert len(created) > 8
    assert [path.name for path in created if not path.is_symlink() and path.stat().st_mode & 0o022] == []
    assert [path.name for path in created if path.is_file() and canary.encode() in path.read_bytes()] == []
    assert canary not in done.stdout + done.stderr


@pytest.mark.parametrize("shown_in", ["arguments", "environment"])
def test_a_secret_that_a_process_shows_is_seen(shown_in: str) -> None:
    secret = f"k3y-of-process-{os.getpid()}"
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    environ = {"KEY": secret} if shown_in == "environment" else {}
    command += [secret] if shown_in == "arguments" else []
    showing = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)
    try:
        # Just begun it shows nothing yet, not even its name.
        assert showing.stdout and showing.stdout.readline() == b"up\n"
        assert len(secrets_in_processes((secret,), os.getppid())) == 1
    finally:
        showing.kill()
        showing.communicate()
    assert secrets_in_processes((secret,)) == set()

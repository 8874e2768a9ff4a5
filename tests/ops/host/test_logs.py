import io
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.host.logs import log_to_terminal, run_log, step_log
from ops.host.redact import MASK, Redactor

SECRETS = {
    "R2_SECRET_KEY": "s3cr3t/with+odd chars",
    "R2_ACCESS_KEY": "AKIDexample",
    "HETZNER_TOKEN": 'tok"en\\quoted',
    "GITLAB_READ_TOKEN": "glpat-example",
    "OS_PASSWORD": "openstack-example",
    "SCW_SECRET_KEY": "11111111-example",
    "OCI_CLI_KEY_CONTENT": "-----BEGIN RSA-----\nfirst line of it\nsecond line of it\n-----END RSA-----",
    "SSH_PRIVATE_KEY": "-----BEGIN-----\nline one of the key\nline two of the key\n-----END-----",
}
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ ")

log = logging.getLogger("ops.test")


@pytest.fixture(autouse=True)
def root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_is_one_line_with_run_step_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "run-12.log"
    with run_log(12, path, Redactor({})), step_log("download"):
        log.info("landed %s", "2025-11", extra={"size_bytes": 512, "etag": 'W/"a b"', "url": "http://x/y"})
    line = path.read_text()
    assert LINE.match(line)
    assert line.endswith(' INFO run=12 step=download landed 2025-11 size_bytes=512 etag="W/\\"a b\\"" url=http://x/y\n')
    log.info("after the run")
    assert path.read_text() == line


def test_only_events_begin_a_line(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with run_log(1, path, Redactor({})):
        log.info("forged\n2026-01-01T00:00:00.000Z INFO run=2 done")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("failed")
    lines = path.read_text().splitlines()
    events = [line for line in lines if LINE.match(line)]
    assert [line.split(" ", 2)[2] for line in events] == ["run=1 forged", "run=1 failed"]
    assert all(line.startswith("    ") for line in lines if line not in events)
    assert "    ValueError: two" in lines


def test_a_run_inside_a_run_writes_to_both_logs_under_its_own_id(tmp_path: Path) -> None:
    outer, inner = tmp_path / "1.log", tmp_path / "2.log"
    with run_log(1, outer, Redactor({})):
        with run_log(2, inner, Redactor({})):
            log.info("inside")
        log.info("outside")
    assert "run=2 inside" in outer.read_text() and "run=1 outside" in outer.read_text()
    assert "run=2 inside" in inner.read_text() and "outside" not in inner.read_text()


def test_threads_of_a_run_log_under_its_id(tmp_path: Path) -> None:
    with run_log(7, tmp_path / "run.log", Redactor({})):
        thread = threading.Thread(target=log.info, args=["from a thread"])
        thread.start()
        thread.join()
    assert "run=7 from a thread" in (tmp_path / "run.log").read_text()


def test_libraries_log_only_warnings_and_errors(tmp_path: Path) -> None:
    with run_log(1, tmp_path / "run.log", Redactor({})):
        logging.getLogger("httpx").info("chatter")
        logging.getLogger("botocore.retries").warning("trouble")
        logging.getLogger("dataflows.extract").info("ours")
    text = (tmp_path / "run.log").read_text()
    assert "trouble" in text and "ours" in text and "chatter" not in text


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_reaches_a_log(tmp_path: Path, name: str) -> None:
    secret = SECRETS[name]
    redact = Redactor.from_environ(SECRETS | {"PATH": "/usr/bin", "TOKENIZERS_PARALLELISM": "false"})
    terminal = io.StringIO()
    log_to_terminal(redact, debug=True, stream=terminal)
    with run_log(1, tmp_path / "run.log", redact):
        log.info(f"message {secret} false /usr/bin")
        log.info("argument %s and %r", secret, {"key": secret})
        log.info("field", extra={"key": secret, "record": json.dumps({"key": secret})})
        try:
            raise ValueError(f"no luck with {secret}") from KeyError(secret)
        except ValueError:
            log.exception("failed")
    for text in ((tmp_path / "run.log").read_text(), terminal.getvalue()):
        for part in secret.splitlines():
            assert part not in text and json.dumps(part)[1:-1] not in text
        assert text.count(MASK) >= 6
        assert "message " + MASK in text and "false /usr/bin" in text


def test_a_secret_quoted_for_a_url_is_found_too() -> None:
    redact = Redactor.from_environ(SECRETS)
    assert redact("https://host/?key=s3cr3t/with%2Bodd%20chars") == f"https://host/?key={MASK}"
    assert redact("https://host/?key=s3cr3t%2Fwith%2Bodd+chars") == f"https://host/?key={MASK}"


def test_a_secret_that_begins_like_another_leaves_no_tail() -> None:
    assert Redactor({"A": "abcd", "B": "abcdefgh"})("abcdefgh abcd") == f"{MASK} {MASK}"


def test_short_or_empty_values_are_not_redacted() -> None:
    assert Redactor({"A": "", "B": "  ", "C": "a"})("a cat sat") == "a cat sat"


def test_the_terminal_gets_our_events_without_tracebacks_unless_debugging() -> None:
    quiet, loud = io.StringIO(), io.StringIO()
    log_to_terminal(Redactor({}), stream=quiet)
    log_to_terminal(Redactor({}), stream=loud, debug=True)
    try:
        raise ValueError("inside")
    except ValueError:
        log.exception("failed")
    logging.getLogger("hamilton").error("banner")
    assert "failed" in quiet.getvalue() and "Traceback" not in quiet.getvalue()
    assert "banner" not in quiet.getvalue()
    assert "Traceback" in loud.getvalue() and "banner" in loud.getvalue()


def test_a_real_terminal_gets_no_traceback_and_no_secret() -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as stream:
        log_to_terminal(Redactor(SECRETS), stream=stream)
        try:
            raise ValueError(SECRETS["HETZNER_TOKEN"])
        except ValueError:
            log.exception("failed with [%s]", SECRETS["R2_ACCESS_KEY"])
        stream.flush()
        shown = os.read(master, 65536).decode()
    os.close(master)
    assert "failed with" in shown and MASK in shown
    assert "Traceback" not in shown and SECRETS["R2_ACCESS_KEY"] not in shown

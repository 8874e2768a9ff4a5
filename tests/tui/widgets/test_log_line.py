"""Tests of shown log lines: control characters replaced, secrets redacted, length limited."""

import subprocess
from pathlib import Path

from ops.host.redact import Redactor
from tests.tui.logs.writing import wait_until
from tui.logs.systemd import SystemJournal, log_line
from tui.widgets.log_line import MAX_CHARS, harmless, shown_line, spans
from tui.widgets.log_match import Term

SECRET = "canary-5f3759df-secret"
REDACT = Redactor({"R2_SECRET_KEY": SECRET})


def shown(data: bytes, before: bytes = b"") -> str:
    return shown_line(data, len(data), before, REDACT).text


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    text = harmless("\x1b[31mred\x1b[0m \x1b]52;c;AAAA\x07 \x1b[2J\x9b5m \x00\r\b \u202egnp\u200b")
    assert text.startswith("red ␛]52;c;AAAA␇ ␛[2J")
    assert all(char.isprintable() for char in text)


def test_any_byte_can_be_shown() -> None:
    assert all(char.isprintable() for char in shown(bytes(range(256))))


def test_a_secret_is_hidden_wherever_a_line_is_cut() -> None:
    for at in range(MAX_CHARS - len(SECRET) - 2, MAX_CHARS + 2):
        data = b"x" * at + SECRET.encode() + b"y" * 5_000
        assert SECRET[:5] not in shown(data)
    for cut in range(1, len(SECRET)):
        whole = b"key " + SECRET.encode() + b" rest"
        text = shown(whole[4 + cut :], before=whole[: 4 + cut])
        assert text == "*** rest"


def test_a_secret_with_colours_in_it_is_hidden() -> None:
    assert shown(f"{SECRET[:6]}\x1b[1m{SECRET[6:]}".encode()) == "***"


def test_a_long_line_shows_its_length() -> None:
    line = shown_line(b"x" * 20_000, 10_000_000, b"", REDACT)
    assert line.text.endswith("x … 10.0 MB in total")
    assert len(line.text) < MAX_CHARS + 30


def test_a_compact_line_has_the_time_of_day_and_the_level_beside_it() -> None:
    data = b"2026-11-21T21:27:35.552Z ERROR run=1 no"
    line = shown_line(data, len(data), b"", REDACT, compact=True)
    assert (line.text, line.level) == ("21:27:35 run=1 no", "ERROR")


def test_texts_are_marked_where_they_stand_in_any_case_when_typed_small() -> None:
    assert spans("Probe probe", (Term("probe"),)) == [(0, 5), (6, 11)]
    assert spans("Probe probe", (Term("Probe"), Term("x+", True))) == [(0, 5)]


def test_an_entry_of_the_system_journal_becomes_a_line_of_ours() -> None:
    entry = b'{"__REALTIME_TIMESTAMP": "1795294800250000", "PRIORITY": "4", "MESSAGE": "late\\nby an hour"}'
    assert log_line(entry) == b"2026-11-21T21:00:00.250Z WARNING late\n    by an hour\n"
    ours = b'{"__REALTIME_TIMESTAMP": "1795294800250000", "MESSAGE": "2026-11-21T21:00:00.000Z INFO tick"}'
    assert log_line(ours) == b"2026-11-21T21:00:00.000Z INFO tick\n"
    assert log_line(b'{"__REALTIME_TIMESTAMP": "1795294800250000", "MESSAGE": [104, 255]}').endswith(b"INFO h\xff\n")
    assert log_line(b"No journal files were found.\n") == b"No journal files were found.\n"


def test_the_system_journal_is_followed_and_ended(tmp_path: Path) -> None:
    command = tmp_path / "journalctl"
    entry = '{"__REALTIME_TIMESTAMP": "1795294800250000", "PRIORITY": "3", "MESSAGE": "no"}'
    command.write_text(f"#!/bin/sh\nprintf '%s\\n' '{entry}'\nexec sleep 60\n")
    command.chmod(0o755)
    journal = SystemJournal([str(command)])
    wait_until(lambda: journal.path.stat().st_size > 0)
    assert journal.path.read_text() == "2026-11-21T21:00:00.250Z ERROR no\n"
    journal.close()
    assert not journal.path.exists()
    assert isinstance(journal._process, subprocess.Popen)
    assert journal._process.returncode is not None

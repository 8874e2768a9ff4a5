"""What counts as a secret, and that none of its spellings is written down."""

import json
from urllib.parse import quote, quote_plus

import pytest

from ops.host.redact import MASK, Redactor, is_secret

SECRETS = ["HETZNER_TOKEN", "R2_SECRET_KEY", "R2_ACCESS_KEY", "OS_PASSWORD", "SSH_PASSPHRASE", "OVH_PRIVATE_KEY"]
SECRETS += ["api_key", "OCI_KEY_CONTENT", "ALERT_WEBHOOK_URL", "ALERT_PING_URL", "AWS_ACCESS_KEY_ID", "TOKEN"]
SECRETS += ["ICEBERG_CREDENTIAL", "TOKEN_OF_MINE"]
PLAIN = ["R2_BUCKET", "MATERIA_DATA_DIR", "KEYBOARD", "TOKENS", "MY_TOKENIZER", "PSD_ARCHIVE_URL", "R2_KEY"]
PLAIN += ["ALERT_URL", "R2_ACCESSKEY"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_name_with_secret_in_it_is_secret(name: str) -> None:
    assert is_secret(name) is True


@pytest.mark.parametrize("name", PLAIN)
def test_other_names_are_none(name: str) -> None:
    assert is_secret(name) is False


def test_without_a_secret_text_is_unchanged() -> None:
    assert Redactor({})("any text") == "any text"


@pytest.mark.parametrize("secret", ["pass/word+one two", 'quo"te\\back', "umlaut-ü", "it's"])
def test_every_spelling_of_a_secret_is_masked(secret: str) -> None:
    redact = Redactor({"TOKEN": secret})
    spellings = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret)]
    for spelling in (*spellings, json.dumps(secret)[1:-1], repr(secret)[1:-1]):
        assert redact(f"before {spelling} after") == f"before {MASK} after", spelling


def test_every_line_of_a_secret_and_the_secret_without_its_margin_are_masked() -> None:
    redact = Redactor({"KEY": "\n  first line \nsecond line\n"})
    assert redact("first line") == redact("second line") == MASK
    assert redact("first line \nsecond line") == MASK


@pytest.mark.parametrize(("secret", "masked"), [("abcd", True), ("abc", False), ("", False)])
def test_values_shorter_than_four_characters_are_not_secret(secret: str, masked: bool) -> None:
    assert (Redactor({"TOKEN": secret})(f"x{secret}x") == f"x{MASK}x") is masked


def test_two_secrets_with_the_same_start_are_both_redacted() -> None:
    redact = Redactor({"A_TOKEN": "secret", "B_TOKEN": "secret-and-more"})
    assert redact("secret-and-more, secret") == f"{MASK}, {MASK}"


def test_only_variables_named_as_secrets_are_masked() -> None:
    redact = Redactor.from_environ({"HETZNER_TOKEN": "hidden-value", "R2_BUCKET": "plain-value"})
    assert redact("hidden-value plain-value") == f"{MASK} plain-value"


def test_of_client_credentials_the_part_after_the_colon_is_a_secret_of_its_own() -> None:
    redact = Redactor.from_environ({"iceberg_credential": "client:s3cret:part", "A_TOKEN": "user:visible"})
    assert redact("s3cret:part") == MASK
    assert redact("visible") == "visible"


def test_the_environment_is_read_when_a_redactor_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_NEW_TOKEN", "set-a-moment-ago")
    assert Redactor.from_environ()("set-a-moment-ago") == MASK

"""Removes secrets from logs, the journal and the terminal."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from ops.config.table import BY_NAME

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|CREDENTIAL|PASSWORD|PASSPHRASE|(?:ACCESS|PRIVATE|API)_KEY(?:_ID)?|KEY_CONTENT|(?:WEBHOOK|PING)_URL)(?:_|$)",
    re.IGNORECASE,
)
_MIN_CHARS = 4
"""The shortest value that is redacted; replacing shorter ones would make every text unreadable."""

MASK = "***"


class Redactor:
    """Replaces secrets in text, including their spellings in URLs, JSON and `repr`."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        spellings = {spelling for secret in secrets.values() for spelling in _spellings(secret)}
        # Longest first, so that a secret that contains a shorter one is replaced completely.
        ordered = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Redactor":
        """Redact the value of every variable that is a secret by its name, such as R2_SECRET_KEY."""
        secrets = {name: value for name, value in environ.items() if is_secret(name)}
        # Client credentials have two parts; the part after the colon is the secret.
        parts = {f"{name}:": value.partition(":")[2] for name, value in secrets.items() if "CREDENTIAL" in name.upper()}
        return cls(secrets | parts)

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text


def is_secret(name: str) -> bool:
    """Whether the value of an environment variable is secret: by its declaration as a setting, or by its name."""
    setting = BY_NAME.get(name)
    return setting.is_secret if setting is not None else _SECRET_NAME.search(name) is not None


def _spellings(secret: str) -> Iterator[str]:
    for part in {secret.strip(), *(line.strip() for line in secret.splitlines())}:
        quoted_for_urls = quote(part), quote(part, safe=""), quote_plus(part)
        for spelling in (part, *quoted_for_urls, json.dumps(part)[1:-1], repr(part)[1:-1]):
            if len(spelling) >= _MIN_CHARS:
                yield spelling

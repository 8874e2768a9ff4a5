"""The supervisor's small state files. They are also written while the disk is full, so that it can be reported."""

import errno
from pathlib import Path

from dataflows.files import move_durably

_BLOCK_BYTES = 16 * 1024
"""Room for a dozen alerts more than there are."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_state(path: Path, text: str, *, is_durable: bool = True) -> None:
    """Write a file atomically; on a full disk overwrite its blocks instead, which needs no space.

    The text is padded to whole blocks for that. Without `is_durable` it is not flushed to the disk. Raises OSError.
    """
    encoded = text.encode()
    content = encoded.ljust(-(-len(encoded) // _BLOCK_BYTES) * _BLOCK_BYTES)  # JSON ignores spaces after it
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_bytes(content)
        if is_durable:
            move_durably(draft, path)
        else:
            draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        size_bytes = path.stat().st_size if path.exists() else 0
        if error.errno not in _FULL or len(content) > size_bytes:
            raise
        with path.open("r+b", buffering=0) as file:
            file.write(content.ljust(size_bytes))

"""A server that takes every connection, and says nothing."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_server() -> Iterator[str]:
    """Yield its URL; who asks it waits until this ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        # The kernel shakes hands; nobody takes up what was called in.
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"

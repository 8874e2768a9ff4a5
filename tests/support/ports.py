"""Ports for servers of other programs, which get a number and bind it later."""

import random
import socket
from contextlib import closing

BELOW_EPHEMERAL = range(20_000, 32_000)
"""Linux gives outgoing connections ports from 32,768 on: one of those may be taken before the server binds it."""


def free_port() -> int:
    """A port that is free on every address, and that no outgoing connection will take."""
    candidates = random.SystemRandom().sample(BELOW_EPHEMERAL, 100)
    return next(port for port in candidates if _is_free(port))


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True

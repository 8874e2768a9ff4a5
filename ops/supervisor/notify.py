"""Notifications for systemd's watchdog (sd_notify(3)); without systemd they do nothing."""

import os
import socket
from collections.abc import Mapping


def notify(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send `state`, such as `WATCHDOG=1`, to systemd. A missing listener is ignored."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except (FileNotFoundError, ConnectionRefusedError):
            return

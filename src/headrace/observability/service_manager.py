"""What a service manager such as systemd is told about the server; sd_notify(3), in a few lines.

Nothing is told where `NOTIFY_SOCKET` is not set.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger("headrace")

# Seconds that a message may wait for a manager that does not read.
PATIENCE = 1.0
# Seconds between two signs of life, at least and at most.
SHORTEST, LONGEST = 0.1, 3600.0


class ServiceManager:
    """The manager that started this process, if it wants to be told how the server is."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._is_reached = True
        self.watchdog_interval = _watchdog_interval(environ) if self._address else None

    def ready(self, status: str) -> None:
        """Say that the server is ready, with a line for people."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the server drains and will end."""
        self._send("STOPPING=1\nSTATUS=draining")

    def alive(self) -> None:
        """Say that the server still answers; a manager with a watchdog expects it regularly."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A name that begins with @ is in Linux's abstract namespace, and not in a file system.
        at = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(PATIENCE)
                sender.sendto(message.encode(), at)
            self._is_reached = True
        except OSError as error:
            # Signs of life go on, and would fill the log.
            if self._is_reached:
                logger.warning("NOTIFY_SOCKET %s: %s", self._address, error.strerror or error)
            self._is_reached = False


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Seconds between two signs of life, half of what the watchdog waits; None without one."""
    wanted, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if not wanted.isdecimal() or not wanted.strip("0"):
        return None
    if process not in (None, "", str(os.getpid())):
        return None
    return min(max(float(wanted) / 2e6, SHORTEST), LONGEST)

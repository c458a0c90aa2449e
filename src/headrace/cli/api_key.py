"""The API key that a command sends to a server."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.errors import ConfigurationError

FLAG = "--api-key-file"
HELP = "file with the API key to send; without it, the key in HEADRACE_API_KEY"
VARIABLE = "HEADRACE_API_KEY"
LARGEST = 16 * 1024


def api_key(file: str | None) -> str | None:
    """The key in a file, or in the environment, if there is one. Keys are not for command lines.

    Raises:
        ConfigurationError: the file cannot be read, or holds no key.
    """
    if file is None:
        return os.environ.get(VARIABLE)
    try:
        with Path(file).open("rb") as opened:
            key = opened.read(LARGEST).strip()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigurationError(f"{FLAG}: '{file}': {reason}") from exc
    if not key or not key.isascii() or len(key.split()) != 1:
        raise ConfigurationError(f"{FLAG}: expected '{file}' to hold one key, and nothing else")
    return key.decode()

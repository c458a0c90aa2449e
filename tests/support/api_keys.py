"""Files of API keys for tests, and what the keys in them are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from headrace.access.keys_file import digest_of

ALL = ["infer", "read", "admin"]
# A key of each kind; those for some models may be used for those that begin with `oth`.
KEYS: dict[str, dict[str, Any]] = {
    **{scope: {"scopes": [scope]} for scope in ALL},
    "expired": {"scopes": ALL, "expires": "2020-01-01T00:00:00Z"},
    "restricted": {"scopes": ALL, "models": ["oth*"]},
}
# What callers present, None for nothing.
PRESENTED = [None, "wrong", *KEYS]


def write_keys(path: Path, **keys: dict[str, Any]) -> Path:
    """Write a file of keys; the key of each name is `hr_NAME`, and its entry has these members."""
    entries = [
        {"name": name, "sha256": digest_of(f"hr_{name}".encode()), **entry}
        for name, entry in keys.items()
    ]
    # Replaced at once, as `headrace keys` does it.
    written = path.with_suffix(".new")
    written.write_text(json.dumps({"keys": entries}))
    written.chmod(0o600)
    os.replace(written, path)
    return path


def bearer(name: str) -> dict[str, str]:
    """The headers of a request with the key of that name."""
    return {"authorization": f"Bearer hr_{name}"}


def expected(key: str | None, needs: str, whole: bool) -> int | None:
    """401 or 403 for a call that needs this scope, or None if it passes."""
    if not needs:
        return None
    if key in (None, "wrong", "expired"):
        return 401
    scopes = KEYS[str(key)]["scopes"]
    if not set(needs.split(" or ")) & set(scopes):
        return 403
    return 403 if whole and key == "restricted" else None

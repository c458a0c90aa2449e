"""The file of API keys: their names, digests, scopes, models, times and rates.

A key is 32 random bytes, so that its SHA-256 can be in the file. Slow hashes are for passwords,
which can be guessed; nobody guesses 256 bits, and each request would pay for one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from headrace.access.needs import SCOPES
from headrace.errors import ConfigurationError, listing, shorten
from headrace.protocol.open_inference.json_faults import refusal

# Keys begin with it, so that those who find one know what it is.
PREFIX = "hr_"
KEY_BYTES = 32
LARGEST = 4 * 1024 * 1024
# Requests a second: one in eleven days.
LEAST_RATE = 1e-6
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}", re.ASCII)
DIGEST = re.compile(r"[0-9a-f]{64}")


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One key. `rate` is in requests a second, and `burst` in requests."""

    name: str
    sha256: str
    scopes: list[str]
    models: list[str] | None = None
    expires: datetime | None = None
    rate: float | None = None
    burst: int | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Entry]


def new_key() -> str:
    """A new random key."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest_of(key: bytes) -> str:
    """The digest of a key, which is all that the file has of it."""
    return hashlib.sha256(key).hexdigest()


def read(path: str, origin: str) -> tuple[Entry, ...]:
    """The entries of a file; `origin` is the setting that names it.

    Raises:
        ConfigurationError: it cannot be read, others may write to it, or an entry is wrong.
    """
    where = f"{origin}: '{path}'"
    try:
        # A pipe would keep its reader waiting, and with it the server.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError(f"{where}: expected a plain file")
            text = opened.read(LARGEST + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigurationError(f"{where}: {reason}") from exc
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(
            f"{where}: expected a file that only its owner can write to, got mode "
            f"{stat.S_IMODE(status.st_mode):04o}; who can write to it can add keys: chmod 600"
        )
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(
            f"{where}: expected a file of this user or of root, got one of user {status.st_uid}"
        )
    if len(text) > LARGEST:
        raise ConfigurationError(f"{where}: expected at most {LARGEST} bytes")
    try:
        entries = tuple(msgspec.json.decode(text, type=_Body).keys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigurationError(f"{where}: {refusal(text, _Body, 'the file')}") from None
    _check(entries, where)
    return entries


def write(path: str, entries: tuple[Entry, ...]) -> None:
    """Replace the file at once, for its owner alone.

    Raises:
        ConfigurationError: it cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode({"keys": entries}), indent=2) + b"\n"
    target = Path(path).resolve()
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".keys-", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as exc:
        raise ConfigurationError(f"--file: '{path}': {exc.strerror}") from exc


@contextmanager
def changing(path: str) -> Iterator[None]:
    """Let nobody else change the file meanwhile: a key that was revoked must not come back.

    Raises:
        ConfigurationError: its folder cannot be opened.
    """
    # The file itself is replaced, and a lock on it would be one on what was there before.
    try:
        folder = os.open(Path(path).resolve().parent, os.O_RDONLY)
    except OSError as exc:
        raise ConfigurationError(f"--file: '{path}': {exc.strerror}") from exc
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def checked(entry: Entry) -> Entry:
    """The entry itself.

    Raises:
        ConfigurationError: something about it is wrong.
    """
    if not NAME.fullmatch(entry.name):
        raise ConfigurationError(
            "name: expected 1 to 64 letters, digits and characters of _.@- , got "
            f"'{shorten(entry.name)}'"
        )
    if not DIGEST.fullmatch(entry.sha256):
        raise ConfigurationError("sha256: expected 64 hexadecimal digits in lower case")
    unknown = [scope for scope in entry.scopes if scope not in SCOPES]
    if unknown or not entry.scopes:
        raise ConfigurationError(
            f"scopes: expected some of {', '.join(SCOPES)}, got {listing(unknown) or 'none'}"
        )
    if entry.models is not None and not entry.models:
        raise ConfigurationError("models: expected a name or a pattern; without models, all")
    if entry.expires is not None and entry.expires.tzinfo is None:
        raise ConfigurationError(
            "expires: expected a time with its zone, such as 2027-01-31T00:00:00Z"
        )
    if entry.rate is not None and not LEAST_RATE <= entry.rate < 1e9:
        raise ConfigurationError(
            f"rate: expected requests a second, at least {LEAST_RATE:g}, got {entry.rate:g}"
        )
    if entry.burst is not None and (entry.rate is None or not 1 <= entry.burst < 1e9):
        raise ConfigurationError("burst: expected requests at once from 1, and a rate beside it")
    return entry


def _check(entries: tuple[Entry, ...], where: str) -> None:
    names: set[str] = set()
    digests: set[str] = set()
    for index, entry in enumerate(entries):
        try:
            checked(entry)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: keys[{index}].{error.message}") from None
        for known, value, key in ((names, entry.name, "name"), (digests, entry.sha256, "sha256")):
            if value in known:
                raise ConfigurationError(f"{where}: keys[{index}].{key} is that of another key")
            known.add(value)


def expiry(text: str, now: datetime | None = None) -> datetime:
    """A time in the future: `90d`, `12h`, or one with its date.

    Raises:
        ConfigurationError: it is not one.
    """
    now = now or datetime.now(UTC)
    if span := re.fullmatch(r"(\d{1,5})([dh])", text):
        unit: dict[str, Any] = {"days" if span[2] == "d" else "hours": int(span[1])}
        found = (now + timedelta(**unit)).replace(microsecond=0)
    else:
        try:
            found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            raise ConfigurationError(
                f"--expires: expected 90d, 12h or a date such as 2027-01-31, got '{shorten(text)}'"
            ) from None
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    if found <= now:
        raise ConfigurationError(f"--expires: '{shorten(text)}' is not in the future")
    return found

"""The keys that a server accepts now: those in a file, read again when it changes."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from collections.abc import Callable

from headrace.access.grant import Grant
from headrace.access.keys_file import Entry, digest_of, read
from headrace.access.token_bucket import TokenBucket
from headrace.errors import ConfigurationError, Unauthenticated

logger = logging.getLogger("headrace.access")

ORIGIN = "--api-keys-file"
# Seconds between two looks at the file.
INTERVAL = 1.0
# One answer for keys that are unknown and for those that have expired: strangers learn nothing.
REFUSED = "the API key is not valid"

# What changes with the file: its inode, size, and times of change.
Stamp = tuple[int, int, int, int]


class Keyring:
    """Finds what a key grants.

    Raises:
        ConfigurationError: the file cannot be read, or something in it is wrong.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._grants: dict[str, tuple[Entry, Grant]] = {}
        self._stamp = _stamp(path)
        self._take(read(path, ORIGIN))

    def find(self, key: bytes) -> Grant:
        """What a key grants. Hot.

        Raises:
            Unauthenticated: there is no such key, or its time is over.
        """
        digest = digest_of(key)
        found = self._grants.get(digest)
        # The look-up compares digests, of which nobody can choose the first bytes; this one takes
        # the same time whatever they are.
        if found is None or not hmac.compare_digest(found[0].sha256, digest):
            raise Unauthenticated(REFUSED).logged_as("an unknown API key")
        grant = found[1]
        if grant.expires is not None and self._clock() >= grant.expires:
            raise Unauthenticated(REFUSED).logged_as(f"API key '{grant.name}' has expired")
        return grant

    async def run(self) -> None:
        """Read the file again whenever it changes, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await asyncio.to_thread(self.refresh)
            except Exception:
                # Keys that are revoked later must not stay in force.
                logger.exception("the API keys could not be looked at; this is a bug")

    def refresh(self) -> None:
        """Read the file again if it has changed. One that is wrong changes nothing but the log."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take(read(self._path, ORIGIN))
        except ConfigurationError as error:
            logger.error("%s; the keys from before stay in force", error.message)
        else:
            logger.info("%d API keys are in force", len(self._grants))

    def _take(self, entries: tuple[Entry, ...]) -> None:
        known = self._grants
        # A key that has not changed keeps the state of its rate limit.
        self._grants = {
            entry.sha256: known[entry.sha256]
            if entry.sha256 in known and known[entry.sha256][0] == entry
            else (entry, _grant(entry))
            for entry in entries
        }
        now = self._clock()
        grants = [grant for _, grant in self._grants.values()]
        if all(grant.expires is not None and grant.expires <= now for grant in grants):
            what = "all keys in it have expired" if grants else "it has no keys"
            logger.warning(
                "%s: '%s': %s, so no key is accepted; `headrace keys create` adds one",
                *(ORIGIN, self._path, what),
            )


def _grant(entry: Entry) -> Grant:
    bucket = None
    if entry.rate is not None:
        bucket = TokenBucket(entry.rate, entry.burst or max(1.0, entry.rate))
    expires = None if entry.expires is None else entry.expires.timestamp()
    return Grant(entry.name, entry.scopes, entry.models, expires, bucket)


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

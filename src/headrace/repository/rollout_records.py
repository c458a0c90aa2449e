"""Where the records of rollouts are kept: in a file of this server and in a tag of the registry."""

from __future__ import annotations

import asyncio
import logging
import os
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from headrace.errors import HeadraceError
from headrace.rollouts.desired import candidate
from headrace.rollouts.record import LONGEST, TAG, Record, agreed, decoded, encoded
from headrace.sources.artifacts import REGISTRY_VARIABLES as VARIABLES
from headrace.sources.follow import Followed
from headrace.sources.model_registry import Registered, Registry

logger = logging.getLogger("headrace.repository")


class RolloutRecords:
    """Reads and keeps the record of each model. What cannot be kept is logged, and no failure.

    With `shared`, other servers read it from the registered model's tag.
    """

    def __init__(self, folder: Path, registry: Registry, shared: bool) -> None:
        self._folder = folder
        self._registry = registry
        self._shared = shared

    def read(self, followed: Followed) -> Record | None:
        """The record that this server kept the last time."""
        try:
            with self._file(followed).open("rb") as file:
                return decoded(file.read(LONGEST + 1))
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("the record of a rollout cannot be read: %s", error.strerror)
            return None

    def agreed(
        self, own: Record | None, followed: Followed, registered: Registered
    ) -> Record | None:
        """What counts, now that the registry has answered."""
        if not self._shared:
            return own
        return agreed(own, self._tagged(registered), candidate(registered, followed))

    async def keep(self, followed: Followed, record: Record) -> None:
        """Keep a record for the next start, and for other servers; one after the other."""
        extra = {"model": followed.settings.name}
        try:
            await asyncio.to_thread(_write, self._file(followed), encoded(record))
        except OSError as error:
            logger.warning(
                "the record of the rollout cannot be kept for a restart: %s",
                error.strerror, extra=extra,
            )  # fmt: skip
        if self._shared:
            try:
                await self._registry.tag(followed.registered, TAG, encoded(record))
            except HeadraceError as error:
                logger.warning(
                    "other servers do not learn of the rollout: %s", error.message, extra=extra
                )

    def is_kept(self, record: Record | None, followed: Followed, registered: Registered) -> bool:
        """Whether other servers can know of a record, if they are to and it is of any use."""
        if not self._shared or record is None or record.canary != candidate(registered, followed):
            return True
        return self._tagged(registered) == record

    def _tagged(self, registered: Registered) -> Record | None:
        return decoded(registered.tags.get(TAG, ""))

    def _file(self, followed: Followed) -> Path:
        # Models of one name may come from several registries; and quoting makes names longer than
        # names of files may be.
        name = followed.settings.name
        asked = next(filter(None, map(os.environ.get, VARIABLES)), "")
        told_apart = "\0".join((asked, followed.registered, name)).encode()
        digest = sha256(told_apart).hexdigest()[:16]
        return self._folder / f"{quote(name, safe='')[:100]}-{digest}.json"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(file)

"""What MLflow's model registry says about registered models; its client runs in a child process."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import InvalidModel, LoadFailed

logger = logging.getLogger("headrace.sources")

# Seconds for one answer; MLflow's client has ten of them for each of its two tries.
PATIENCE = 30.0
# Bytes of one answer; a registered model may have thousands of aliases.
LONGEST_ANSWER = 16 * 1024 * 1024
COMMAND = (sys.executable, "-m", "headrace.worker.lookup")
# Seconds for the child process to import that client, which is slow on a machine that is busy.
START_PATIENCE = 180.0
ENDED = "the process that asks the registry has ended"


@dataclass(frozen=True)
class Registered:
    """A registered model: which version each alias and each stage means, and the newest one."""

    aliases: dict[str, str]
    stages: dict[str, str]
    latest: str
    tags: dict[str, str] = field(default_factory=dict)

    def version(self, selector: str) -> str | None:
        """The version that `@alias`, a stage, `latest` or a number means now; None if none."""
        if selector.startswith("@"):
            return self.aliases.get(selector[1:])
        if selector.lower() == "latest":
            return self.latest or None
        if selector.isdecimal():
            return selector
        stages = {stage.lower(): version for stage, version in self.stages.items()}
        return stages.get(selector.lower())

    def without(self, name: str, selector: str) -> InvalidModel:
        """The error where `selector` means no version of the registered model of that name."""
        known = ", ".join(f"@{alias}" for alias in sorted(self.aliases)) or "none"
        return InvalidModel(f"registered model '{name}' has no {selector}; its aliases: {known}")


class Registry:
    """Looks up registered models. One child process serves all; it is started when first needed.

    `command` starts it; see `headrace.worker.lookup` for what it reads and writes.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._child: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}
        # Registered models that are to be asked for in this turn of the loop.
        self._names: list[str] = []
        self._starting = asyncio.Lock()
        # Their answers do not say which value was set.
        self._tagging = asyncio.Lock()
        self._started = asyncio.Event()

    async def look(self, name: str) -> Registered:
        """What the registry says about a registered model now.

        Raises:
            LoadFailed: it does not answer; the message is MLflow's reason. An InvalidModel if it
                has no such model, or refuses to answer.
        """
        answer = await self._ask(name)
        tags = answer.get("tags", {})
        return Registered(answer["aliases"], answer["stages"], answer["latest"], tags)

    async def tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model.

        Raises:
            LoadFailed: the registry does not answer, or refuses; the message is MLflow's reason.
        """
        async with self._tagging:
            await self._ask(name, key, value)

    async def close(self) -> None:
        """End the child process."""
        if self._reading is not None:
            self._reading.cancel()
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
            await self._child.wait()

    async def _ask(self, name: str, tag: str = "", value: str = "") -> dict[str, Any]:
        async with self._starting:
            child = await self._running()
        future = self._waiting.get((name, tag))
        if future is None:
            future = self._waiting[name, tag] = asyncio.get_running_loop().create_future()
            if tag:
                _write(child, {"name": name, "tag": tag, "value": value})
            else:
                # Those who ask in one turn of the loop are answered by one call.
                if not self._names:
                    asyncio.get_running_loop().call_soon(self._ask_together, child)
                self._names.append(name)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await asyncio.shield(future)
        except TimeoutError:
            self._waiting.pop((name, tag), None)
            raise LoadFailed(
                f"registered model '{name}': the registry did not answer within {PATIENCE:g} s"
            ) from None
        if "trouble" in answer:
            kind = InvalidModel if answer.get("permanent") else LoadFailed
            raise kind(f"registered model '{name}': {answer['trouble']}")
        return answer

    def _ask_together(self, child: asyncio.subprocess.Process) -> None:
        names, self._names = self._names, []
        _write(child, names)

    async def _running(self) -> asyncio.subprocess.Process:
        if self._child is None or self._child.returncode is not None:
            self._started.clear()
            self._child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LONGEST_ANSWER,
            )
            self._reading = asyncio.create_task(self._read(self._child))
        child = self._child
        try:
            async with asyncio.timeout(START_PATIENCE):
                await self._started.wait()
        except TimeoutError:
            child.kill()
            raise LoadFailed(
                f"MLflow's client was not imported within {START_PATIENCE:g} s"
            ) from None
        if child.returncode is not None:
            raise LoadFailed(ENDED)
        return child

    async def _read(self, child: asyncio.subprocess.Process) -> None:
        """Hand each answer to those who wait for it, until the child ends."""
        assert child.stdout is not None, "it was started with a pipe"
        try:
            async for line in child.stdout:
                # The first line is empty, and says that it has started.
                self._started.set()
                if not line.strip():
                    continue
                answer = json.loads(line)
                future = self._waiting.pop((answer["name"], answer.get("tag", "")), None)
                if future is not None:
                    future.set_result(answer)
        except ValueError:
            # It is not JSON, or too long; a fresh child process answers the next question.
            logger.exception("the process that asks the registry wrote what nobody can read")
            child.kill()
        await child.wait()
        self._started.set()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_result({"trouble": ENDED})


def _write(child: asyncio.subprocess.Process, question: Any) -> None:
    assert child.stdin is not None, "it was started with a pipe"
    child.stdin.write(json.dumps(question).encode() + b"\n")

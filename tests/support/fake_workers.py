"""A pool of fake workers, whose answers the test chooses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from headrace.errors import HeadraceError
from headrace.executors.channel import Channel
from headrace.executors.executor import WorkerLost
from headrace.executors.pool import WorkerPool
from headrace.executors.process import Environment, WorkerProcess
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.protocol.tensor import Tensor
from headrace.settings import ModelSettings
from headrace.worker import frames
from headrace.worker.frames import Kind

LOAD_TIMEOUT = 100.0
LOAD = ModelMetadata(platform="fake").to_dict()


class FakeProcess:
    """A worker that has a real channel, which writes to it as to its transport.

    It loads what it is told to and answers with its pid, unless the world has something else.
    """

    probe, reacts = WorkerProcess.probe, WorkerProcess.reacts
    end_if_stuck = WorkerProcess.end_if_stuck

    def __init__(self, world: World) -> None:
        self._world = world
        self._probe: asyncio.Future[Any] | None = None
        self.pid = len(world.workers) + 1
        self.channel = Channel()
        self.channel.connection_made(self)  # type: ignore[arg-type]
        self.exited = asyncio.Event()
        self.fate = "exited with status 3"
        self.was_killed = self.is_stopped = False
        self.ended: WorkerLost | None = None
        self.received: list[tuple[int, Any]] = []

    def write(self, data: bytes) -> None:
        kind, call, size, _ = frames.parse_header(data)
        meta = json.loads(data[frames.HEADER.size :][:size])
        self.received.append((kind, call if kind == Kind.WITHDRAW else meta.get("model")))
        asyncio.get_running_loop().call_soon(self._answer, kind, call, meta)

    def abort(self) -> None: ...

    def _answer(self, kind: int, call: int, meta: Any) -> None:
        world = self._world
        if world.is_stuck:
            return
        if kind == Kind.LOAD:
            left = world.loads.get(meta["model"])
            outcome = left.pop(0) if left else LOAD
        elif kind == Kind.METRICS:
            outcome = {"families": [self.pid]}
        elif kind in (Kind.INFER, Kind.STREAM):
            outcome = world.answers.get(meta["model"], self._own_answer())
        elif kind in (Kind.GRANT, Kind.WITHDRAW):
            return
        else:
            outcome = {}
        if outcome == "dies":
            self.end()
        elif outcome != "hangs":
            self.send(call, outcome)

    def _own_answer(self) -> Any:
        return {"tensors": [], "parameters": {"pid": self.pid}}

    def send(self, call: int, outcome: Any, kind: Kind = Kind.RESULT) -> None:
        if isinstance(outcome, HeadraceError):
            kind, outcome = Kind.ERROR, frames.error_meta(outcome)
        text = json.dumps(outcome).encode()
        self.channel.data_received(b"".join(frames.encode(kind, call, text)))

    def end(self) -> None:
        self.channel.lose(WorkerLost("the worker process died"))
        self.exited.set()

    async def death(self) -> WorkerLost:
        await self.exited.wait()
        message = f"the worker process {self.fate} while loading it"
        return WorkerLost(message, self.ended is not None and self.ended.blameless)

    def kill(self, reason: WorkerLost | None = None) -> None:
        self.channel.lose(reason or WorkerLost("the worker process was ended"))
        self.was_killed = True
        self.ended = self.ended or reason
        self.exited.set()

    async def stop(self, grace: float) -> None:
        self.is_stopped = True
        self.kill()


class World:
    """A pool and the workers that were started for it.

    `loads` holds what comes of a model's next loads, and `answers` what it answers. Workers that
    are stuck answer nothing.
    """

    def __init__(self, size: int) -> None:
        self.workers: list[FakeProcess] = []
        self.loads: dict[str, list[Any]] = {}
        self.answers: dict[str, Any] = {}
        self.is_stuck = False
        self.pool = WorkerPool(Environment("python"), size, LOAD_TIMEOUT)

    async def spawn(self, environment: Environment) -> FakeProcess:
        self.workers.append(FakeProcess(self))
        return self.workers[-1]

    async def load(self, key: str, instances: int = 1) -> ModelMetadata:
        return await self.pool.load(key, ModelSettings(key, "fake:Fake", instances=instances))

    def begin(self, key: str, seconds: float = 50.0) -> asyncio.Task[Any]:
        return asyncio.create_task(self.pool.infer(key, request(), soon(seconds)))

    async def pid(self, key: str) -> int:
        """The worker that answered."""
        return pid(await self.begin(key))

    def calls(self, kind: Kind) -> list[tuple[int, Any]]:
        """Which workers were asked that, and about what."""
        return [
            (worker.pid, what)
            for worker in self.workers
            for asked, what in worker.received
            if asked == kind
        ]


def request() -> InferenceRequest:
    return InferenceRequest([Tensor("x", "UINT8", [1], b"x")])


def pid(response: InferenceResponse) -> int:
    return int((response.parameters or {})["pid"])


def soon(seconds: float = 50.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def turns() -> None:
    """Let everything go on that waits for nothing."""
    await asyncio.sleep(0.001)

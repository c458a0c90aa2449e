"""The large tensors that a worker reads in this process's memory, and until when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headrace.executors.shared_memory import SharedMemory
from headrace.protocol.large_buffers import THRESHOLD
from headrace.protocol.tensor import Buffer, Tensor
from headrace.worker import frames


class LentTensors:
    """Holds what is in shared memory for as long as the worker may read it.

    That is until the call ends, unless the worker says before that it keeps a tensor; then it is
    until the worker releases that. Without shared memory, nothing is lent.
    """

    def __init__(self, memory: SharedMemory | None) -> None:
        self._memory = memory
        # By call, and of each the buffers by their offsets.
        self._lent: dict[int, dict[int, Buffer]] = {}
        # By offset; the same buffer may be kept for two calls that were sent it.
        self._kept: dict[int, list[Buffer]] = {}
        self._placed: dict[int, Buffer] = {}

    @property
    def held(self) -> int:
        """How many tensors the worker may read."""
        return sum(map(len, (*self._lent.values(), *self._kept.values())))

    def describe(
        self, call: int, tensors: Sequence[Tensor]
    ) -> tuple[list[list[Any]], list[Buffer]]:
        """Tensors for a frame of a call; large ones are lent, and placed in shared memory. Hot."""
        described, payload = frames.describe(tensors, self._place)
        if self._placed:
            placed = self._lent[call] = self._taken()
            for tensor, entry in zip(tensors, described, strict=True):
                if entry[4] >= 0:
                    # The bytes that it was made of can go.
                    tensor.data = placed[entry[4]]
        return described, payload

    def describe_kept(self, tensors: Sequence[Tensor]) -> tuple[list[list[Any]], list[Buffer]]:
        """Tensors for a frame of which the worker releases those that are lent."""
        described, payload = frames.describe(tensors, self._place)
        if self._placed:
            for offset, buffer in self._taken().items():
                self._keep(offset, buffer)
        return described, payload

    def keep(self, call: int, offsets: Iterable[int]) -> None:
        """The worker keeps these tensors of a call that is about to end."""
        lent = self._lent.get(call, {})
        for offset in offsets:
            # Nothing is lent any more to a worker that is lost.
            if offset in lent:
                self._keep(offset, lent[offset])

    def release(self, offsets: Iterable[int]) -> None:
        """The worker no longer needs these, which it had kept."""
        for offset in offsets:
            if buffers := self._kept.get(offset):
                buffers.pop()
                if not buffers:
                    del self._kept[offset]

    def end(self, call: int) -> None:
        """A call has ended, or could not be sent. Hot."""
        self._lent.pop(call, None)

    def end_all(self) -> None:
        """The worker is gone."""
        self._memory = None
        self._lent.clear()
        self._kept.clear()

    def _place(self, data: Buffer) -> int | None:
        if len(data) < THRESHOLD or self._memory is None:
            return None
        offset = self._memory.offset(data)
        if offset is None:
            copied = self._memory.copy(data)
            if copied is None:
                return None
            data = copied
            offset = self._memory.offset(data)
            assert offset is not None, "it was just copied there"
        self._placed[offset] = data
        return offset

    def _taken(self) -> dict[int, Buffer]:
        placed, self._placed = self._placed, {}
        return placed

    def _keep(self, offset: int, buffer: Buffer) -> None:
        self._kept.setdefault(offset, []).append(buffer)

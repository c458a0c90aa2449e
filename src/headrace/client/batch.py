"""Requests that are sent as one: joined by rows, answered together, split again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from headrace.client.client_errors import BadAnswer, ClientError
from headrace.client.result import InferResult
from headrace.errors import shorten
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, split_rows


@dataclass(frozen=True)
class Batch:
    """Entries `start`, `start + 1`, ... of a file as one request; `rows` counts the rows of each.

    `ids` are the entries' own ids. `fault` says why a single entry cannot be sent.
    """

    start: int
    rows: list[int]
    request: InferenceRequest
    ids: list[str]
    fault: ClientError | None = None

    def part(self, first: int, last: int) -> Batch:
        """The entries from `first` up to `last`, counted within this batch."""
        ends = [0, *accumulate(self.rows)]
        counts = [ends[first], ends[last] - ends[first], ends[-1] - ends[last]]
        inputs = [split_rows(tensor, counts)[1] for tensor in self.request.inputs]
        ids = self.ids[first:last]
        request = InferenceRequest(
            inputs, self.request.parameters, self.request.outputs, ids[0] if len(ids) == 1 else ""
        )
        return Batch(self.start + first, self.rows[first:last], request, ids)

    def divide(self, result: InferResult) -> list[InferResult]:
        """The result of each entry.

        Raises:
            BadAnswer: an output does not have one row for each row that was sent.
        """
        if len(self.rows) == 1:
            return [result]
        total = sum(self.rows)
        pieces = []
        for tensor in result.tensors:
            if not tensor.shape or tensor.shape[0] != total:
                raise BadAnswer(
                    f"output '{shorten(tensor.name)}' has shape {list(tensor.shape)}, expected "
                    f"{total} rows"
                )
            pieces.append(split_rows(tensor, self.rows))
        return [
            InferResult(
                [piece[position] for piece in pieces],
                model_name=result.model_name,
                model_version=result.model_version,
                id=id or result.id,
                parameters=result.parameters,
            )
            for position, id in enumerate(self.ids)
        ]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a batch, or of a part of it: a result, or the error that all of it met."""

    batch: Batch
    result: InferResult | None = None
    error: ClientError | None = None


def merge(batches: Sequence[Batch]) -> Batch:
    """Consecutive batches with the same `key` as one."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0].request
    inputs = [
        Tensor(
            same[0].name,
            same[0].datatype,
            [sum(tensor.shape[0] for tensor in same), *same[0].shape[1:]],
            b"".join([tensor.data for tensor in same]),
            same[0].parameters,
        )
        for same in zip(*(batch.request.inputs for batch in batches), strict=True)
    ]
    return Batch(
        batches[0].start,
        [count for batch in batches for count in batch.rows],
        InferenceRequest(inputs, first.parameters, first.outputs),
        [id for batch in batches for id in batch.ids],
    )


def key(batch: Batch) -> Any:
    """What must be equal for two batches to be merged; None for those that never are."""
    request = batch.request
    tensors = request.inputs
    if batch.fault is not None or not all(tensor.shape for tensor in tensors):
        return None
    if len({tensor.shape[0] for tensor in tensors}) != 1:
        return None
    shapes = [
        (tensor.name, tensor.datatype, tensor.shape[1:], tensor.parameters) for tensor in tensors
    ]
    return shapes, request.parameters, request.outputs

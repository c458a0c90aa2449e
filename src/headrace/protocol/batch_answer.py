"""The answer to a batch, of which each request gets its rows. Hot.

Most protocols need no tensors of their own for each request: they make something of the whole
answer once, and give each request its rows of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.protocol import value_forms
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.tensor import Tensor, split_rows


class BatchAnswer:
    """What all parts of an answer share. `rows` is how many there are.

    `made` is for what a protocol has made of the whole answer, by the protocol's name for it.
    """

    __slots__ = ("made", "nbytes", "response", "rows")

    def __init__(self, response: InferenceResponse, rows: int) -> None:
        self.response = response
        self.rows = rows
        self.nbytes = response.nbytes
        self.made: dict[str, Any] = {}


class Part(InferenceResponse):
    """The rows of one request in the answer to a batch; its tensors are cut out on demand."""

    __slots__ = ("_cut", "answer", "first", "rows")

    def __init__(
        self, answer: BatchAnswer, first: int, rows: int, form: value_forms.Form = None
    ) -> None:
        self.answer = answer
        self.first = first
        self.rows = rows
        self.parameters = answer.response.parameters
        self.form = form
        self._cut: list[Tensor] | None = None

    @property
    def outputs(self) -> list[Tensor]:  # type: ignore[override]
        if self._cut is None:
            rest = self.answer.rows - self.first - self.rows
            counts = [self.first, self.rows, rest]
            self._cut = [split_rows(each, counts)[1] for each in self.answer.response.outputs]
        return self._cut

    @property
    def nbytes(self) -> int:
        return self.answer.nbytes * self.rows // self.answer.rows


def parts(response: InferenceResponse, counts: Sequence[int]) -> list[InferenceResponse]:
    """One response for each request of a batch; `counts` are their rows, and add up to all."""
    forms = value_forms.split(response.form, counts)
    first = 0
    found: list[InferenceResponse] = []
    if all(DATATYPES[tensor.datatype].itemsize for tensor in response.outputs):
        answer = BatchAnswer(response, sum(counts))
        for count, form in zip(counts, forms, strict=True):
            found.append(Part(answer, first, count, form))
            first += count
        return found
    # To find the rows of text takes a look at all of it.
    columns = [split_rows(tensor, counts) for tensor in response.outputs]
    for index, form in enumerate(forms):
        outputs = [column[index] for column in columns]
        found.append(InferenceResponse(outputs, response.parameters, form))
    return found

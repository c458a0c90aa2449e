"""Counts what a message of `ModelInfer` has of everything, before protobuf makes objects of it.

Protobuf takes up to 18 times the bytes of a message, and reads all of it in one go. What is counted
here costs no memory, and other threads get their turn.

Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.counts import Counts

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def _number(message: type, field: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]
    return number


_REQUEST, _INPUT = pb.ModelInferRequest, pb.ModelInferRequest.InferInputTensor
_INPUTS = _number(_REQUEST, "inputs")
_OUTPUTS = _number(_REQUEST, "outputs")
_PARAMETERS = _number(_REQUEST, "parameters")
_INPUT_PARAMETERS = _number(_INPUT, "parameters")
_CONTENTS = _number(_INPUT, "contents")
_OUTPUT_PARAMETERS = _number(_REQUEST.InferRequestedOutputTensor, "parameters")
_TEXTS = _number(pb.InferTensorContents, "bytes_contents")


class _Cut(Exception):
    """The message is none: protobuf says so better."""


def check_message(body: bytes, counts: Counts) -> None:
    """Check a message that is yet to be parsed; one that is malformed passes.

    Raises:
        TooLarge: it has more of something than `counts` allows.
    """
    with suppress(_Cut, IndexError):
        _Walk(body, counts).request()


class _Walk:
    """One walk over the fields of a message; it ends as soon as there are too many."""

    def __init__(self, body: bytes, counts: Counts) -> None:
        self._body = body
        self._counts = counts
        self._found = dict.fromkeys(counts._fields, 0)
        # Fields that are none of these: numbers that are not packed, and unknown ones.
        self._others = 0

    def request(self) -> None:
        for number, start, end in self._fields(0, len(self._body)):
            if number == _INPUTS:
                self._add("inputs")
                self._input(start, end)
            elif number == _OUTPUTS:
                self._add("outputs")
                self._parameters(start, end, _OUTPUT_PARAMETERS)
            elif number == _PARAMETERS:
                self._add("parameters")

    def _input(self, start: int, end: int) -> None:
        for number, first, last in self._fields(start, end):
            if number == _INPUT_PARAMETERS:
                self._add("parameters")
            elif number == _CONTENTS:
                for field, _, _ in self._fields(first, last):
                    if field == _TEXTS:
                        self._add("text_elements")

    def _parameters(self, start: int, end: int, wanted: int) -> None:
        for number, _, _ in self._fields(start, end):
            if number == wanted:
                self._add("parameters")

    def _add(self, what: str) -> None:
        self._found[what] += 1
        self._counts.check(what, self._found[what])

    def _fields(self, position: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The fields between two places: the number of each, and where its value is."""
        body = self._body
        while position < end:
            key = body[position]
            position += 1
            if key > 0x7F:
                key, position = self._rest(key, position)
            kind = key & 7
            if kind == _LENGTH_DELIMITED:
                size = body[position]
                position += 1
                if size > 0x7F:
                    size, position = self._rest(size, position)
                start, position = position, position + size
                if position > end:
                    raise _Cut
                yield key >> 3, start, position
                continue
            if kind == _VARINT:
                while body[position] > 0x7F:
                    position += 1
                position += 1
            else:
                # Those of groups have no bytes but their own.
                position += _FIXED.get(kind, 0)
            self._others += 1
            self._counts.check("text_elements", self._others)

    def _rest(self, first: int, position: int) -> tuple[int, int]:
        """A number of several bytes, and where it ends."""
        number, shift = first & 0x7F, 7
        while shift < 70:
            byte = self._body[position]
            position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number, position
            shift += 7
        raise _Cut

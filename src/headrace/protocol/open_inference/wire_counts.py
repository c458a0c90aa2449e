"""Counts what a message of `ModelInfer` has of everything, before protobuf makes objects of it.

Protobuf takes up to 18 times the bytes of a message, and reads all of it in one go. What is counted
here costs no memory, and other threads get their turn.

Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.counts import Counts
from headrace.protocol.open_inference.grpc_contents import varint
from headrace.protocol.open_inference.tags import tag

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def _number(message: type, field: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]
    return number


_REQUEST, _INPUT = pb.ModelInferRequest, pb.ModelInferRequest.InferInputTensor
_RAW = _number(_REQUEST, "raw_input_contents")
_INPUTS = _number(_REQUEST, "inputs")
_OUTPUTS = _number(_REQUEST, "outputs")
_PARAMETERS = _number(_REQUEST, "parameters")
_INPUT_PARAMETERS = _number(_INPUT, "parameters")
_CONTENTS = _number(_INPUT, "contents")
_CONTENTS_TAG = tag(_INPUT, "contents")
_OUTPUT_PARAMETERS = _number(_REQUEST.InferRequestedOutputTensor, "parameters")
_TEXTS = _number(pb.InferTensorContents, "bytes_contents")


class _Cut(Exception):
    """The message is malformed; the error of protobuf says how."""


class Contents(NamedTuple):
    """Contents of an input that are nothing but one length-delimited field with some number.

    `start` and `end` are where its value is, `key` is where the contents begin, and `input` is
    where the value of their input is.
    """

    number: int
    start: int
    end: int
    key: int
    input: tuple[int, int]


def check_message(body: bytes, counts: Counts) -> dict[int, Contents]:
    """Check a message that is yet to be parsed; one that is malformed passes.

    Returns the contents of inputs by their index, where none are raw and all lengths are written
    in the usual way.

    Raises:
        TooLarge: it has more of something than `counts` allows.
    """
    with suppress(_Cut, IndexError):
        return _Walk(body, counts).request()
    return {}


class _Walk:
    """One walk over the fields of a message; it ends as soon as there are too many."""

    def __init__(self, body: bytes, counts: Counts) -> None:
        self._body = body
        self._counts = counts
        self._found = dict.fromkeys(counts._fields, 0)
        # All other fields: numbers that are not packed, and unknown ones.
        self._others = 0

    def request(self) -> dict[int, Contents]:
        contents: dict[int, Contents] = {}
        has_raw = False
        for number, start, end in self._fields(0, len(self._body)):
            if number == _INPUTS:
                self._add("inputs")
                if (found := self._input(start, end)) is not None:
                    contents[self._found["inputs"] - 1] = found
            elif number == _RAW:
                has_raw = True
            elif number == _OUTPUTS:
                self._add("outputs")
                self._parameters(start, end, _OUTPUT_PARAMETERS)
            elif number == _PARAMETERS:
                self._add("parameters")
        return {} if has_raw else contents

    def _input(self, start: int, end: int) -> Contents | None:
        places: list[tuple[int, int]] = []
        fields: list[tuple[int, int, int]] = []
        for number, first, last in self._fields(start, end):
            if number == _INPUT_PARAMETERS:
                self._add("parameters")
            elif number == _CONTENTS:
                places.append((first, last))
                for field, begin, stop in self._fields(first, last):
                    if field == _TEXTS:
                        self._add("text_elements")
                    if len(fields) < 2:
                        fields.append((field, begin, stop))
        if len(places) != 1 or len(fields) != 1:
            return None
        ((first, last),), ((field, begin, stop),) = places, fields
        key = first - len(varint(last - first)) - 1
        if (
            stop != last
            or begin != first + 1 + len(varint(stop - begin))
            or self._body[key:first] != _CONTENTS_TAG + varint(last - first)
            or not self._body.endswith(varint(end - start), 0, start)
        ):
            return None
        return Contents(field, begin, stop, key, (start, end))

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

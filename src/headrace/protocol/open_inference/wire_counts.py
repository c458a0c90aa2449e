"""Counts what a message of `ModelInfer` has of everything, before protobuf makes objects of it.

Protobuf takes up to 18 times the bytes of a message, and reads all of it in one go. What is counted
here costs no memory, and other threads get their turn.

Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from headrace.errors import InvalidInput, TooLarge
from headrace.protocol.datatypes import MAX_RANK
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.counts import Counts

# Bytes of contents in a form that no client writes from which on they are refused. Protobuf would
# read them in one go.
MOST_UNUSUAL = 256 * 1024
MALFORMED = "the request is not a valid ModelInferRequest message"
# Bytes of the longest shape: its numbers have ten at most.
_LONGEST_SHAPE = 10 * MAX_RANK
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
_SHAPE = _number(_INPUT, "shape")
_OUTPUT_PARAMETERS = _number(_REQUEST.InferRequestedOutputTensor, "parameters")
_TEXTS = _number(pb.InferTensorContents, "bytes_contents")


class _Cut(Exception):
    """The message is malformed."""


class Contents(NamedTuple):
    """Contents of an input that are nothing but length-delimited fields with one number.

    `pieces` are the places of their values, and `cuts` those of the contents with the keys before
    them; `input` says where the key and the value of their input begin, and where it ends.
    """

    number: int
    pieces: list[tuple[int, int]]
    cuts: list[tuple[int, int]]
    input: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return sum(end - start for start, end in self.pieces)


def check_message(body: bytes, counts: Counts) -> dict[int, Contents]:
    """Check a message that is yet to be parsed.

    Returns the contents of inputs by their index, where none are raw.

    Raises:
        TooLarge: it has more of something than `counts` allows.
        InvalidInput: it is malformed, or has large contents that are refused anyway.
    """
    try:
        return _Walk(body, counts).request()
    except (_Cut, IndexError):
        raise InvalidInput(MALFORMED) from None


class _Walk:
    """One walk over the fields of a message; it ends as soon as there are too many."""

    def __init__(self, body: bytes, counts: Counts) -> None:
        self._body = body
        self._counts = counts
        self._found = dict.fromkeys(counts._fields, 0)
        # Numbers that are not packed, and unknown ones.
        self._numbers = 0
        # All other fields.
        self._others = 0

    def request(self) -> dict[int, Contents]:
        contents: dict[int, Contents] = {}
        raw = 0
        for number, key, start, end in self._fields(0, len(self._body)):
            if number == _INPUTS:
                self._add("inputs")
                if (found := self._input(key, start, end)) is not None:
                    contents[self._found["inputs"] - 1] = found
            elif number == _RAW:
                raw += 1
                self._counts.check("inputs", raw)
            elif number == _OUTPUTS:
                self._add("outputs")
                self._parameters(start, end, _OUTPUT_PARAMETERS)
            elif number == _PARAMETERS:
                self._add("parameters")
            else:
                self._add_other()
        if not raw:
            return contents
        for index, found in contents.items():
            if found.size >= MOST_UNUSUAL:
                raise InvalidInput(
                    f"inputs[{index}]: expected either contents or raw_input_contents, got both"
                )
        return {}

    def _input(self, key: int, start: int, end: int) -> Contents | None:
        pieces: list[tuple[int, int]] = []
        cuts: list[tuple[int, int]] = []
        numbers: set[int] = set()
        is_usual, shape = True, 0
        for number, before, first, last in self._fields(start, end):
            if number == _INPUT_PARAMETERS:
                self._add("parameters")
            elif number == _CONTENTS:
                self._add_other()
                cuts.append((before, last))
                is_usual &= self._contents(first, last, pieces, numbers)
            else:
                self._add_other()
                shape += last - first if number == _SHAPE else 0
                if shape > _LONGEST_SHAPE:
                    raise InvalidInput(
                        f"inputs[{self._found['inputs'] - 1}]: shape has more than the {MAX_RANK} "
                        "dimensions that are allowed"
                    )
        if not pieces:
            return None
        found = Contents(min(numbers), pieces, cuts, (key, start, end))
        if is_usual and len(numbers) == 1:
            return found
        if found.size >= MOST_UNUSUAL:
            raise InvalidInput(
                f"inputs[{self._found['inputs'] - 1}]: expected the contents packed in one field, "
                "got others beside it"
            )
        return None

    def _contents(
        self, start: int, end: int, pieces: list[tuple[int, int]], numbers: set[int]
    ) -> bool:
        """Add what there is but texts; returns whether all of it is length-delimited."""
        position, is_usual = start, True
        for number, key, first, last in self._fields(start, end):
            is_usual &= key == position
            position = last
            numbers.add(number)
            if number == _TEXTS:
                self._add("text_elements")
            else:
                self._add_other()
                pieces.append((first, last))
        return is_usual and position == end

    def _parameters(self, start: int, end: int, wanted: int) -> None:
        for number, *_ in self._fields(start, end):
            if number == wanted:
                self._add("parameters")
            else:
                self._add_other()

    def _add(self, what: str) -> None:
        self._found[what] += 1
        self._counts.check(what, self._found[what])

    def _add_other(self) -> None:
        self._others += 1
        if self._others > self._counts.around:
            raise TooLarge(
                f"the request has more than {self._others - 1} fields around its contents; "
                "--max-inputs, --max-outputs and --max-parameters raise the cap"
            )

    def _fields(self, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """The length-delimited fields between two places.

        The number of each, where its key is, and where its value begins and ends.
        """
        body = self._body
        while position < end:
            place = position
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
                yield key >> 3, place, start, position
                continue
            if kind == _VARINT:
                while body[position] > 0x7F:
                    position += 1
                position += 1
            else:
                # Those of groups have no bytes but their own.
                position += _FIXED.get(kind, 0)
            if position > end:
                raise _Cut
            self._numbers += 1
            self._counts.check("text_elements", self._numbers)

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

"""Packed numbers of large messages, which are read without protobuf.

Protobuf reads all of a message in one go, and takes four or eight bytes for a number that has one.
Here numbers are read in slices, between which other threads get the interpreter's lock.

Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from headrace.errors import InvalidInput
from headrace.protocol import large_buffers
from headrace.protocol.datatypes import Datatype
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.counts import Counts
from headrace.protocol.open_inference.data_faults import label, out_of_range
from headrace.protocol.open_inference.grpc_contents import FIELDS, varint, wrong_field
from headrace.protocol.open_inference.tags import tag
from headrace.protocol.open_inference.wire_counts import MALFORMED, Contents, check_message
from headrace.protocol.piecewise import Pieces
from headrace.protocol.tensor import Buffer

# Bytes of packed numbers from which on they are set aside.
LARGE = 256 * 1024
# Bytes that are read in one go, in a few milliseconds.
_STEP = 256 * 1024
# Bytes of the longest number.
_LONGEST = 10
# What each datatype's numbers are cut to, if they have more bits, as protobuf does.
_WIDE = {name: field.wide for name, field in FIELDS.items() if field.wide[1:2] in ("i", "u")}
_WIDE["BOOL"] = "|b1"
_NAMES = {FIELDS[name].number: FIELDS[name].name for name in _WIDE}
# Numbers that have the same bytes as in the tensor, and how many each has.
_SAME_BYTES = {FIELDS["FP32"].number: 4, FIELDS["FP64"].number: 8}
_NAMES.update({FIELDS[name].number: FIELDS[name].name for name in ("FP32", "FP64")})
_INPUT = tag(pb.ModelInferRequest, "inputs")


def set_aside(body: bytes, counts: Counts) -> tuple[bytes, Mapping[int, PackedNumbers]]:
    """A message without its large packed numbers, and these by the index of their input.

    Raises:
        TooLarge: it has more of something than `counts` allows.
        InvalidInput: it is malformed, or has large contents that are refused anyway.
    """
    found = {
        index: contents
        for index, contents in check_message(body, counts).items()
        if contents.number in _NAMES and contents.size >= LARGE
    }
    view, taken = memoryview(body), 0
    parts: list[Buffer] = []
    for contents in found.values():
        key, first, last = contents.input
        left = last - first - sum(end - start for start, end in contents.cuts)
        parts += (view[taken:key], _INPUT, varint(left))
        taken = first
        for start, end in contents.cuts:
            parts.append(view[taken:start])
            taken = end
    numbers = {
        index: PackedNumbers(contents.number, _joined(view, contents))
        for index, contents in found.items()
    }
    return (b"".join([*parts, view[taken:]]) if found else body), numbers


def _joined(view: memoryview, contents: Contents) -> memoryview:
    """All numbers of some contents; they are copied if they come in several pieces.

    Raises:
        InvalidInput: a piece ends within a number.
    """
    itemsize = _SAME_BYTES.get(contents.number)
    whole = Pieces()
    for start, end in contents.pieces:
        is_cut = (end - start) % itemsize if itemsize else end > start and view[end - 1] > 0x7F
        if is_cut:
            raise InvalidInput(MALFORMED)
        if len(contents.pieces) == 1:
            return view[start:end]
        whole.add_buffer(view[start:end])
    return memoryview(whole.whole())


class PackedNumbers(NamedTuple):
    """The numbers of an input, of a field with some number, as a message has them."""

    field: int
    packed: memoryview

    def read(self, kind: Datatype, shape: Sequence[int], count: int, name: str) -> Buffer:
        """The raw bytes of the tensor, as `grpc_contents.read_contents` reads them.

        Raises:
            InvalidInput: the field is another datatype's, there are not `count` numbers, one is
                none, or one does not fit the datatype.
        """
        where = label(name)
        expected = FIELDS.get(kind.name)
        if expected is None or expected.number != self.field:
            raise wrong_field(kind, [_NAMES[self.field]], where)
        found = self._count()
        if found != count:
            raise InvalidInput(
                f"{where}: shape {list(shape)} needs {count} elements, data has {found}"
            )
        if self.field in _SAME_BYTES:
            return self.packed
        values = large_buffers.empty(count, kind.numpy)
        done = start = 0
        while start < len(self.packed):
            part = np.frombuffer(self.packed[start : start + _STEP], np.uint8)
            ends = np.flatnonzero(part < 0x80)
            wide = _numbers(part, ends).astype(_WIDE[kind.name])
            _check_range(wide, done, kind, shape, name)
            values[done : done + len(wide)] = wide
            done += len(wide)
            start += int(ends[-1]) + 1
        return values.view(np.uint8).data

    def _count(self) -> int:
        if itemsize := _SAME_BYTES.get(self.field):
            return len(self.packed) // itemsize
        found = 0
        for start in range(0, len(self.packed), _STEP):
            part = np.frombuffer(self.packed[start : start + _STEP], np.uint8)
            found += int(np.count_nonzero(part < 0x80))
        return found


def _numbers(part: Any, ends: Any) -> Any:
    """The numbers that end at `ends`, of 64 bits.

    Raises:
        InvalidInput: one is too long.
    """
    if len(ends) == len(part):
        return part
    if not len(ends):
        raise InvalidInput(MALFORMED)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > _LONGEST:
        raise InvalidInput(MALFORMED)
    numbers = np.zeros(len(ends), np.uint64)
    for index in range(longest):
        there = np.flatnonzero(lengths > index)
        bits = part[starts[there] + index].astype(np.uint64) & np.uint64(0x7F)
        numbers[there] |= bits << np.uint64(7 * index)
    return numbers


def _check_range(wide: Any, before: int, kind: Datatype, shape: Sequence[int], name: str) -> None:
    if kind.low is not None and kind.high is not None and wide.dtype != np.bool_:
        outside = (wide < kind.low) | (wide > kind.high)
        if outside.any():
            raise out_of_range(before + int(outside.argmax()), kind, shape, name)


NO_NUMBERS: Mapping[int, PackedNumbers] = {}

"""Large answers as messages, put together in pieces: protobuf would copy them as a whole, twice.

Messages behind each other are one message with the fields of both, and so are the contents of an
output. Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from headrace.errors import AnswerTooLarge, shorten
from headrace.protocol import nullable
from headrace.protocol.blocks import STEP, blocks, elements, flat
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.grpc_contents import FIELDS, varint, write_contents
from headrace.protocol.open_inference.grpc_parameters import write_parameters
from headrace.protocol.open_inference.tags import tag
from headrace.protocol.piecewise import Pieces
from headrace.protocol.tensor import Buffer, Tensor

_OUTPUT = tag(pb.ModelInferResponse, "outputs")
_RAW_OUTPUT = tag(pb.ModelInferResponse, "raw_output_contents")
_CONTENTS = tag(pb.ModelInferResponse.InferOutputTensor, "contents")
_BYTES = FIELDS["BYTES"].tag
# Bytes that typed contents may have: half of what a message may.
LARGEST = 2**30


class Written:
    """A message that is encoded already."""

    __slots__ = ("encoded",)

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded

    def SerializeToString(self) -> bytes:
        """As that of protobuf's messages."""
        return self.encoded


def encode_large(message: pb.ModelInferResponse, response: InferenceResponse, raw: bool) -> Written:
    """The answer that begins with `message`, and has outputs with raw or typed contents.

    Raises:
        BadModelOutput: the data of an output does not fit its shape.
        TypeError, ValueError: a message cannot carry a name or a parameter.
    """
    pieces = Pieces()
    pieces.add(message.SerializeToString())
    data = []
    for tensor in response.outputs:
        if column := nullable.datatype_of(tensor):
            tensor = nullable.raw(tensor, column)
        output = pb.ModelInferResponse.InferOutputTensor(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
        )
        write_parameters(tensor.parameters, output.parameters)
        described = output.SerializeToString()
        if raw:
            data.append(tensor.data)
            pieces.add(_field(_OUTPUT, len(described)) + described)
        else:
            contents = _contents(tensor)
            size = sum(map(len, contents))
            pieces.add(_field(_OUTPUT, len(described) + size) + described)
            while contents:
                pieces.add_buffer(contents.popleft())
    for each in data:
        pieces.add(_field(_RAW_OUTPUT, len(each)))
        pieces.add_buffer(each)
    return Written(pieces.whole())


def enclosed(field: bytes, first: bytes, written: Written) -> Written:
    """A message with one field, which has the bytes of `first` and of a message after them."""
    pieces = Pieces()
    pieces.add(_field(field, len(first) + len(written.encoded)) + first)
    pieces.add_buffer(written.encoded)
    return Written(pieces.whole())


def _contents(tensor: Tensor) -> deque[Buffer]:
    """The typed contents of an output in parts, a message for each block of it.

    Raises:
        AnswerTooLarge: they are too large for a message.
    """
    if 10 * len(tensor.data) > LARGEST:
        _check_size(tensor)
    parts: deque[Buffer] = deque()
    for block in blocks(flat(tensor)):
        if tensor.datatype == "BYTES" and block.nbytes > 2 * STEP:
            for element in elements(block):
                begin = _field(_BYTES, len(element))
                parts += (_field(_CONTENTS, len(begin) + len(element)) + begin, element)
            continue
        contents = pb.InferTensorContents()
        write_contents(block, contents)
        text = contents.SerializeToString()
        parts.append(_field(_CONTENTS, len(text)) + text)
    return parts


def _check_size(tensor: Tensor) -> None:
    """Check how many bytes the numbers of a tensor have in a message, before it has any of them.

    Raises:
        AnswerTooLarge: they are too many.
    """
    kind = DATATYPES[tensor.datatype]
    size = len(tensor.data)
    if kind.is_integer:
        steps = blocks(flat(tensor))
        size = sum(_packed_size(np.frombuffer(each.data, kind.numpy)) for each in steps)
    if size > LARGEST:
        raise AnswerTooLarge(
            f"output '{shorten(tensor.name)}' has more than {LARGEST} bytes as typed contents; "
            "ask with raw_input_contents, which is answered with raw_output_contents"
        )


def _packed_size(integers: Any) -> int:
    """Bytes that integers have as varints: seven bits in each, and ten of them below zero."""
    size = len(integers) + 9 * int(np.count_nonzero(integers < 0))
    bits = np.iinfo(integers.dtype).bits - (integers.dtype.kind == "i")
    for shift in range(7, bits, 7):
        size += int(np.count_nonzero(integers >= integers.dtype.type(1 << shift)))
    return size


def _field(field: bytes, size: int) -> bytes:
    """What a field of so many bytes begins with."""
    return field + varint(size)

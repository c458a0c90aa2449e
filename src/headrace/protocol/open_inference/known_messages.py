"""Messages of `ModelInfer` that are like earlier ones, without protobuf. Hot.

A client sends the same message again and again, but for the elements of its tensor and perhaps the
id. In the order in which protobuf writes fields, the elements are the end of the message:
`raw_input_contents` has the highest number. So a message that has the same bytes before its
elements as an earlier one, the id aside, and is as long, has the same fields.

Answers are put together from parts that protobuf has written: messages behind each other are one
message with the fields of both.

Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from headrace.protocol import nullable
from headrace.protocol.batch_answer import BatchAnswer, Part
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.grpc_contents import varint
from headrace.protocol.open_inference.grpc_parameters import write_parameters
from headrace.protocol.open_inference.tags import tag
from headrace.protocol.tensor import Buffer, Parameters, Tensor

T = TypeVar("T")
_Described = tuple[bytes, list[bytes]]
_MADE = "grpc"

# How many beginnings are remembered, each up to this many bytes long.
REMEMBERED = 1024
LONGEST = 1024

_REQUEST_ID = tag(pb.ModelInferRequest, "id")
_RAW_INPUT = tag(pb.ModelInferRequest, "raw_input_contents")
_ID = tag(pb.ModelInferResponse, "id")
_RAW_OUTPUT = tag(pb.ModelInferResponse, "raw_output_contents")


class KnownRequest:
    """What requests with the same beginning say: one raw tensor for a model, and perhaps an id."""

    __slots__ = ("_datatype", "_input", "_shape", "_size", "model_name", "model_version")

    def __init__(self, message: pb.ModelInferRequest, tensor: Tensor, size: int) -> None:
        self.model_name = message.model_name
        self.model_version = message.model_version
        self._size = size
        self._input = tensor.name
        self._datatype = tensor.datatype
        self._shape = tuple(tensor.shape)

    def request(self, body: bytes, id: str) -> InferenceRequest:
        """The request of a message that begins like this."""
        data = body[self._size :]
        tensor = Tensor(self._input, self._datatype, list(self._shape), data)
        return InferenceRequest([tensor], id=id)


class KnownRequests:
    """The beginnings of requests that have been decoded.

    Requests of the same length are looked for under the same beginning, the latest one.
    """

    def __init__(self) -> None:
        # By the length of the message: where its id begins and ends, and where its elements begin.
        self._places: dict[int, tuple[int, int, int]] = {}
        # By the length of the message, where its elements begin, and all before them but the id, in
        # two parts. The same two parts in other places would not be the same fields.
        self._known: dict[tuple[int, int, bytes, bytes], KnownRequest] = {}

    def find(self, body: bytes) -> tuple[KnownRequest, str] | None:
        """What is known of a message, whose request needs no further check then, and its id."""
        place = self._places.get(len(body))
        if place is None:
            return None
        begin, end, size = place
        known = self._known.get((len(body), size, body[:begin], body[end:size]))
        if known is None or begin == end:
            return None if known is None else (known, "")
        id = body[begin:end].decode("latin-1")
        return (known, id) if id.isascii() and id.isprintable() else None

    def remember(
        self, body: bytes, message: pb.ModelInferRequest, request: InferenceRequest
    ) -> None:
        """Remember how a valid request begins, if only its id and its elements can differ."""
        contents = message.raw_input_contents
        if len(contents) != 1 or message.outputs or message.parameters:
            return
        tensor = request.inputs[0]
        # Whether texts and booleans are valid, their bytes say.
        if (
            tensor.parameters
            or tensor.datatype == "BOOL"
            or not DATATYPES[tensor.datatype].itemsize
        ):
            return
        size = len(body) - tensor.nbytes
        raw = _RAW_INPUT + varint(tensor.nbytes)
        id = message.id.encode()
        id_field = _REQUEST_ID + varint(len(id)) + id if id else b""
        before = body[: size - len(raw)]
        at = before.find(id_field)
        end = at + len(id_field)
        if (
            size > LONGEST
            or not body.endswith(raw, 0, size)
            or at < 0
            or not (_are_fields(before[:at]) and _are_fields(before[end:]))
        ):
            return
        if len(self._known) >= REMEMBERED or len(self._places) >= REMEMBERED:
            self._known.clear()
            self._places.clear()
        begin = end - len(id)
        self._places[len(body)] = begin, end, size
        known = KnownRequest(message, tensor, size)
        self._known[len(body), size, body[:begin], body[end:size]] = known


def _are_fields(part: bytes) -> bool:
    """Whether these are whole fields of a request, so that what follows is no part of them.

    There is neither an id nor a raw tensor among them: those are to be the ones that follow.
    """
    try:
        found = pb.ModelInferRequest.FromString(part)
    except DecodeError:
        return False
    return not found.id and not found.raw_input_contents


class KnownAnswers:
    """The parts of answers that have been written: those of each model, and of each output."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str | None], bytes] = {}
        self._parameters: dict[tuple[Any, ...], bytes] = {(): b""}
        # What describes an output, and what its elements begin with.
        self._outputs: dict[tuple[Any, ...], tuple[bytes, bytes]] = {}

    def write(
        self, response: InferenceResponse, model_name: str, model_version: str | None, id: str
    ) -> bytes | None:
        """The answer with raw outputs; None if only protobuf can write it, or nothing can."""
        try:
            model = self._models.get((model_name, model_version))
            if model is None:
                model = self._write_model(model_name, model_version)
            text = id.encode()
            parts: list[Buffer] = [model, varint(len(text)), text]
            if type(response) is Part:
                self._add_part(parts, response)
            else:
                described, begins = self._describe_all(response)
                parts.append(described)
                for begin, tensor in zip(begins, response.outputs, strict=True):
                    parts += (begin, tensor.data)
        except (TypeError, ValueError):
            return None
        return b"".join(parts)

    def _add_part(self, parts: list[Buffer], part: Part) -> None:
        """Add the outputs of one request of a batch, most of which is the same for all of it."""
        made = part.answer.made
        shared: _Shared | None = made.get(_MADE)
        if shared is None:
            shared = made[_MADE] = _Shared(part.answer)
        first, rows = part.first, part.rows
        described = shared.described.get(rows)
        if described is None:
            described = shared.described[rows] = self._describe_all(part)
        parts.append(described[0])
        for begin, (data, width) in zip(described[1], shared.columns, strict=True):
            parts += (begin, data[first * width : (first + rows) * width])

    def _describe_all(self, response: InferenceResponse) -> _Described:
        """All between the id and the elements of the first output, and what each begins with."""
        own = _key(response.parameters)
        parameters = self._parameters.get(own)
        described = [self._write_parameters(own) if parameters is None else parameters]
        begins = []
        for tensor in response.outputs:
            given = _key(tensor.parameters)
            key = (tensor.name, tensor.datatype, given, len(tensor.data), *tensor.shape)
            text, begin = self._outputs.get(key) or self._describe(key, tensor)
            described.append(text)
            begins.append(begin)
        return b"".join(described), begins

    def _write_model(self, name: str, version: str | None) -> bytes:
        message = pb.ModelInferResponse(model_name=name, model_version=version or "")
        written: bytes = message.SerializeToString()
        return _remember(self._models, (name, version), written + _ID, len(written))

    def _write_parameters(self, key: tuple[Any, ...]) -> bytes:
        message = pb.ModelInferResponse()
        write_parameters(dict(key), message.parameters)
        written: bytes = message.SerializeToString()
        return _remember(self._parameters, key, written, len(written))

    def _describe(self, key: tuple[Any, ...], tensor: Tensor) -> tuple[bytes, bytes]:
        if nullable.datatype_of(tensor):
            raise ValueError("its elements are written in another form")
        message = pb.ModelInferResponse()
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        write_parameters(tensor.parameters, output.parameters)
        found = message.SerializeToString(), _RAW_OUTPUT + varint(tensor.nbytes)
        return _remember(self._outputs, key, found, len(found[0]))


class _Shared:
    """What the answers to the requests of a batch share.

    `columns` has the elements of each output, and how many bytes of them are a row. `described` is
    by the number of rows.
    """

    __slots__ = ("columns", "described")

    def __init__(self, answer: BatchAnswer) -> None:
        self.columns = [
            (memoryview(tensor.data), len(tensor.data) // answer.rows)
            for tensor in answer.response.outputs
        ]
        self.described: dict[int, _Described] = {}


def _key(parameters: Parameters | None) -> tuple[Any, ...]:
    """Parameters as a key; equal ones are written alike.

    Raises:
        TypeError: one is no text. Equal numbers can be written as different kinds.
    """
    if not parameters:
        return ()
    for value in parameters.values():
        if type(value) is not str:
            raise TypeError("a parameter is no text")
    return tuple(parameters.items())


def _remember(known: dict[Any, T], key: Any, written: T, size: int) -> T:
    """Remember a part of an answer, unless it is long: models choose what they say."""
    if size > LONGEST:
        return written
    if len(known) >= REMEMBERED:
        known.clear()
    known[key] = written
    return written

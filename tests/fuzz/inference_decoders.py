"""Targets: the bodies of inference requests, over REST and gRPC."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

from google.protobuf.message import DecodeError

from fuzz.target import Target
from headrace.adapters.multipart import payload
from headrace.codecs import decode_input
from headrace.errors import HeadraceError, InvalidInput
from headrace.http.body import _Inflater
from headrace.protocol.cloud_events import CloudEvents
from headrace.protocol.messages import InferenceRequest, TensorMetadata
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference import rest_binary, rest_json
from headrace.protocol.open_inference.grpc_messages import decode_request as decode_message
from headrace.protocol.open_inference.known_messages import KnownRequests
from headrace.protocol.table_request import TableRequest
from headrace.protocol.tensor import Tensor, check_size, split_rows, unpack_bytes

DATATYPES = ("BOOL", "UINT8", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES")
CONTENT_TYPES = ("str", "base64", "datetime", "json", "np", "pd_json", "hg_json", "bool", "x")


def shown(request: InferenceRequest) -> Any:
    """All that a request says, in a form that can be compared."""
    if isinstance(request, TableRequest):
        request = InferenceRequest(
            list(request.inputs), request.parameters, request.outputs, request.id
        )
    tensors = [
        (each.name, each.datatype, list(each.shape), bytes(each.data), each.parameters)
        for each in request.inputs
    ]
    return repr((tensors, request.parameters, request.outputs, request.id))


def checked(request: InferenceRequest) -> InferenceRequest:
    """A request whose tensors have as many bytes as they say."""
    for tensor in request.inputs:
        try:
            check_size(tensor, tensor.name)
        except InvalidInput as error:
            raise AssertionError(f"decoded, and wrong: {error.message}") from error
    return request


def outcome(decode: Any) -> Any:
    """What a decoder found, in a form that can be compared; or how it refused."""
    try:
        return shown(checked(decode().request))
    except HeadraceError as error:
        return type(error)


class _WithoutShortcuts:
    """Has bodies decoded the usual way, or with their arrays set aside however small they are."""

    def __init__(self, is_aside: bool) -> None:
        self._changes: dict[str, Any] = {"read_floats": lambda *_: None}
        if is_aside:
            self._changes["SMALLEST"] = 0

    def __enter__(self) -> None:
        self._before = {name: getattr(rest_json, name) for name in self._changes}
        vars(rest_json).update(self._changes)

    def __exit__(self, *_: object) -> None:
        vars(rest_json).update(self._before)


def v2_json(data: bytes) -> None:
    """The three ways to decode a JSON body find the same."""
    found = outcome(lambda: rest_json.decode_request(data))
    table = outcome(lambda: rest_json.decode_request(data, None, columns=["a", "b"]))
    with _WithoutShortcuts(False):
        usual = outcome(lambda: rest_json.decode_request(data))
    with _WithoutShortcuts(True):
        aside = outcome(lambda: rest_json.decode_request(data))
    assert found == table == usual == aside, (found, table, usual, aside)


def v2_binary(data: bytes) -> None:
    """JSON and raw tensors; the first two bytes say how much is JSON."""
    if len(data) < 2:
        return
    (length,) = struct.unpack_from("<H", data)
    body = data[2:]
    if length == 0xFFFF:
        metadata = [TensorMetadata("x", "FP32" if len(body) % 2 else "BYTES", [-1, 2])]
        checked(rest_binary.decode_raw(body, metadata).request)
        return
    checked(rest_json.decode_request(body, length).request)


def bytes_elements(data: bytes) -> None:
    """Elements of text: their lengths, their rows, and the values that content types make."""
    if len(data) < 2:
        return
    count, kind = data[0] % 8, CONTENT_TYPES[data[1] % len(CONTENT_TYPES)]
    tensor = Tensor("x", "BYTES", [count], data[2:], {"content_type": kind})
    elements = unpack_bytes(tensor.data, count)
    assert b"".join(struct.pack("<I", len(each)) + each for each in elements) == tensor.data
    if count:
        rows = split_rows(tensor, [1] * count)
        assert b"".join(bytes(each.data) for each in rows) == tensor.data
    decode_input(tensor)


def typed_elements(data: bytes) -> None:
    """Raw elements of every datatype, as the values that content types make."""
    if len(data) < 3:
        return
    datatype = DATATYPES[data[0] % len(DATATYPES)]
    kind = CONTENT_TYPES[data[1] % len(CONTENT_TYPES)]
    tensor = Tensor("x", datatype, [data[2] % 8], data[3:], {"content_type": kind})
    check_size(tensor, "x")
    decode_input(tensor)


def protobuf(data: bytes) -> None:
    """A message, and the same decoded again by what is remembered of it."""
    message = pb.ModelInferRequest.FromString(data)
    decoded = decode_message(message)
    checked(decoded.request)
    known = KnownRequests()
    known.remember(data, message, decoded.request)
    for body in (data, data[:-1] + bytes([data[-1] ^ 0x55])):
        found = known.find(body)
        if found is None:
            continue
        again = decode_message(pb.ModelInferRequest.FromString(body)).request
        assert shown(found[0].request(body, found[1])) == shown(again)


def multipart(data: bytes) -> None:
    payload(data, "multipart/form-data; boundary=XX")


_FIELD = re.compile(rb"[\t !-~]*")


def cloud_events(data: bytes) -> None:
    """No id can end a header."""
    id = data.decode("utf-8", "replace")
    events = CloudEvents(id, id, id or None)
    for _, value in events.fields(id):
        assert _FIELD.fullmatch(value), value
    for _, text in events.metadata(id):
        assert _FIELD.fullmatch(text.encode("ascii")), text


LIMIT = 100_000


def content_encoding(data: bytes) -> None:
    """A compressed body, in pieces."""
    if not data:
        return
    inflater = _Inflater(b"gzip" if data[0] & 1 else b"deflate", LIMIT)
    size = data[0] + 1
    for start in range(1, len(data), size):
        chunk = data[start : start + size]
        while chunk:
            chunk = inflater.step(chunk)
    assert len(inflater.finish()) <= LIMIT


def _body(*inputs: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({**fields, "inputs": list(inputs)}).encode()


def _input(datatype: str, data: Any, shape: list[int], **fields: Any) -> dict[str, Any]:
    return {"name": "a", "datatype": datatype, "shape": shape, "data": data, **fields}


def _message(datatype: str, raw: bytes | None, shape: list[int], **contents: Any) -> bytes:
    message = pb.ModelInferRequest(model_name="m", id="7")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=shape)
    if raw is not None:
        message.raw_input_contents.append(raw)
    for name, values in contents.items():
        getattr(tensor.contents, name).extend(values)
    return message.SerializeToString()


_JSON_BODIES = [
    _body(_input("FP64", [1.5, -2.0], [2])),
    _body(_input("FP64", [1.5], [1]), {**_input("FP64", [2.5], [1]), "name": "b"}),
    _body(_input("FP32", [[1.5, 1e300], [None, 2]], [2, 2]), id="7", parameters={"p": [1]}),
    _body(_input("INT64", [9007199254740993, -1], [2])),
    _body(_input("UINT8", [255, 0], [2], parameters={"content_type": "np"})),
    _body(_input("BOOL", [True, False], [2]), outputs=[{"name": "y"}]),
    _body(_input("BYTES", ["a", "\u00fc\n"], [2], parameters={"content_type": "str"})),
    _body(_input("BYTES", "lone", [4])),
    _body(
        _input("FP16", [1, 2], [2]), outputs=[{"name": "y", "parameters": {"classification": 2}}]
    ),
]
_BINARY = json.dumps(
    {
        "inputs": [
            {"name": "x", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}
        ]
    }
).encode()
_WORDS = [
    *(b'"%b"' % each for each in (b"inputs", b"name", b"shape", b"datatype", b"data", b"id")),
    *(b'"%b"' % each for each in (b"parameters", b"outputs", b"binary_data_size")),
    *(b'"%b"' % each.encode() for each in DATATYPES),
    *(b"null", b"true", b"1e999", b"-0", b"[]", b"{}", b"\\ud800", b"NaN", b"[[", b"]]", b'"FP'),
    b"18446744073709551616",
]
_FORM = (
    b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\nabc\r\n--XX--\r\n"
)

TARGETS = {
    "v2_json": Target(v2_json, _JSON_BODIES, _WORDS),
    "v2_binary": Target(
        v2_binary,
        [struct.pack("<H", len(_BINARY)) + _BINARY + bytes(8), b"\xff\xff" + bytes(16)],
        _WORDS,
    ),
    "bytes_elements": Target(
        bytes_elements,
        [
            b"\x02\x00" + b"\x01\x00\x00\x00a\x02\x00\x00\x00bc",
            b"\x01\x01" + b"\x04\x00\x00\x00YQ==",
            b"\x01\x02" + b"\x14\x00\x00\x002020-01-01T00:00:00Z",
            b"\x01\x03" + b'\x0a\x00\x00\x00{"a": [1]}'[:14],
        ],
        [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"2020-01-01", b"+14:00", b"YQ==", b'{"a":1}'],
    ),
    "typed_elements": Target(
        typed_elements,
        [bytes([kind, 4, 1]) + bytes(8) for kind in range(len(DATATYPES))],
        [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x7c"],
    ),
    "protobuf": Target(
        protobuf,
        [
            _message("FP64", bytes(8), [1]),
            _message("BYTES", b"\x01\x00\x00\x00a", [1]),
            _message("INT32", None, [2], int_contents=[1, -2]),
            _message("UINT64", None, [1], uint64_contents=[2**63]),
            _message("BYTES", None, [2], bytes_contents=[b"a", b"b"]),
            _message("BOOL", None, [1], bool_contents=[True]),
        ],
        [b":\x08", b"\x1a\x00", b"*\x04", b"FP64", b"BYTES", b"\xff\xff\xff\xff\x0f"],
        refusals=(*Target.__new__.__defaults__[-1], DecodeError),  # type: ignore[index]
    ),
    "multipart": Target(
        multipart, [_FORM], [b"--XX", b"--XX--", b"\r\n\r\n", b"Content-Disposition:", b"\r\n"]
    ),
    "cloud_events": Target(cloud_events, [b"id", "\u00fc \r\nx: y".encode()], [b"\r\n", b"%0d"]),
    "content_encoding": Target(
        content_encoding,
        [
            b"\x09" + bytes.fromhex("1f8b08000000000000034b040043beb7e801000000"),
            b"\x08" + bytes.fromhex("789c4b040000620062"),
            b"\x08" + bytes.fromhex("4b0400"),
        ],
    ),
}

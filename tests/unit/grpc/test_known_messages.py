"""Messages that are recognized or put together mean the same as protobuf says."""

from __future__ import annotations

import struct
from contextlib import suppress
from math import prod
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.errors import HeadraceError
from headrace.protocol import nullable
from headrace.protocol.batch_answer import parts
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference import known_messages
from headrace.protocol.open_inference.grpc_messages import decode_request, encode_response
from headrace.protocol.open_inference.known_messages import KnownAnswers, KnownRequests
from headrace.protocol.tensor import Tensor

# Bytes that mean something where a field begins.
TRICKY = st.sampled_from(["", "m", "wine", "x:", ":\x08", "\x1a\x00", "ü", "a" * 200])
RAW = st.one_of(st.binary(min_size=8, max_size=8), st.just(b":\x08:\x06:\x04:\x02"))


@st.composite
def requests(draw: Any) -> bytes:
    """Bytes of messages, most of them valid, whose fields may be in any order."""
    message = pb.ModelInferRequest(
        model_name=draw(TRICKY),
        model_version=draw(TRICKY),
        id=draw(st.sampled_from(["", "7", "m", "abcdefgh"])),
    )
    for number in range(draw(st.sampled_from([1, 1, 1, 2]))):
        datatype, shape = draw(
            st.sampled_from([("FP64", [1]), ("INT32", [1, 2]), ("UINT8", [8]), ("BOOL", [8])])
        )
        added = message.inputs.add(name=f"{number}{draw(TRICKY)}", datatype=datatype, shape=shape)
        if draw(st.integers(0, 5)) == 0:
            added.parameters["a"].int64_param = 1
        message.raw_input_contents.append(draw(RAW))
    if draw(st.integers(0, 5)) == 0:
        message.parameters["b"].string_param = "c"
    if draw(st.integers(0, 5)) == 0:
        message.outputs.add(name="y")
    body: bytes = message.SerializeToString()
    cut = draw(st.sampled_from([0, 0, 10]))
    extra = draw(st.sampled_from([b"", b"", b"\xfa\x07\x01:", b"\xf8\x07\x01", b":\x01a"]))
    return draw(st.sampled_from([body + extra, extra + body, body[cut:] + body[:cut]]))


def decoded(body: bytes) -> InferenceRequest | None:
    with suppress(DecodeError, HeadraceError):
        return decode_request(pb.ModelInferRequest.FromString(body)).request
    return None


def shown(request: InferenceRequest) -> Any:
    tensors = [
        (each.name, each.datatype, list(each.shape), bytes(each.data), each.parameters)
        for each in request.inputs
    ]
    return tensors, request.parameters, request.outputs


def remember(known: KnownRequests, body: bytes) -> None:
    if (request := decoded(body)) is not None:
        known.remember(body, pb.ModelInferRequest.FromString(body), request)


@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_what_is_recognized_is_what_protobuf_reads(bodies: list[bytes], data: Any) -> None:
    known = KnownRequests()
    for body in bodies:
        remember(known, body)
    for body in bodies:
        other = data.draw(RAW)
        place = data.draw(st.integers(0, max(0, len(body) - len(other))))
        for asked in (
            body,
            body[: -len(other)] + other,
            body[:place] + other + body[place + len(other) :],
        ):
            if (found := known.find(asked)) is None:
                continue
            expected = decoded(asked)
            message = pb.ModelInferRequest.FromString(asked)
            assert expected is not None
            assert (found[0].model_name, found[0].model_version, found[1]) == (
                message.model_name,
                message.model_version,
                expected.id,
            )
            assert shown(found[0].request(asked, "")) == shown(expected)


def request(raw: bytes = bytes(8), datatype: str = "FP64", **fields: Any) -> bytes:
    message = pb.ModelInferRequest(model_name="m", **fields)
    message.inputs.add(name="x", datatype=datatype, shape=[1])
    message.raw_input_contents.append(raw)
    body: bytes = message.SerializeToString()
    return body


def test_requests_that_differ_in_their_elements_are_recognized() -> None:
    known = KnownRequests()
    remember(known, request())

    assert_known(known, request(struct.pack("<d", 0.5)))


def assert_known(known: KnownRequests, asked: bytes, id: str = "") -> None:
    found, expected = known.find(asked), decoded(asked)
    assert found is not None
    assert expected is not None
    assert (shown(found[0].request(asked, "")), found[1]) == (shown(expected), id)


def test_requests_that_differ_in_their_ids_are_recognized() -> None:
    known = KnownRequests()
    # The version is the field of the id, which cannot be told from it by looking for it.
    remember(known, request(id="\x1a\x02m!", model_version="\x1a\x02m!"))
    remember(known, request(id="first"))

    assert_known(known, request(struct.pack("<d", 0.5), id="other"), "other")
    assert known.find(request(id="third!")) is None
    # Whether these are allowed, the decoder says.
    assert known.find(request(id="a\nb\nc")) is None
    assert known.find(request(id="fir\u00fc")) is None
    assert known.find(request(id="first").replace(b"first", b"\xff" * 5)) is None


def test_the_beginning_of_one_request_in_the_places_of_another_is_not_recognized() -> None:
    known = KnownRequests()
    short = request(bytes(4), "FP32", id="abc")
    remember(known, short)
    remember(known, request(bytes(8), id="abcdefgh"))
    begin, end = short.index(b"abc"), len(short) - 4

    assert known.find(short[:begin] + b"abcdefgh" + short[begin + 3 : end] + bytes(8)) is None


def test_a_request_that_says_more_is_not_recognized() -> None:
    known = KnownRequests()
    for more in ({"outputs": [{"name": "y"}]}, {"parameters": {"a": {"bool_param": True}}}):
        body = request(**more)
        remember(known, body)

        assert known.find(body) is None


def test_a_raw_tensor_inside_of_another_field_is_none() -> None:
    # The version ends as the message does: what looks like a tensor is a part of it.
    tensor = request()
    body = tensor + b"\x12\x0c:\x08" + b"a" * 10
    assert body.endswith(b"a" * 8)
    known = KnownRequests()
    remember(known, body)

    assert known.find(body) is None


def test_texts_and_booleans_are_read_each_time() -> None:
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="BOOL", shape=[1])
    message.raw_input_contents.append(b"\x01")
    known = KnownRequests()
    remember(known, message.SerializeToString())

    assert known.find(message.SerializeToString()) is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_messages, "REMEMBERED", 8)
    known, answers = KnownRequests(), KnownAnswers()
    for number in range(100):
        body = request(model_version="1" * number)
        remember(known, body)
        assert known.find(body) is not None
        tensor = Tensor("x", "UINT8", [number], bytes(number), {"content_type": str(number)})
        assert answers.write(InferenceResponse([tensor], tensor.parameters), str(number), "1", "")

    assert len(known._known) <= 8 >= len(known._places)
    assert len(answers._models) <= 8 >= len(answers._parameters)
    assert len(answers._outputs) <= 8


PARAMETERS = st.one_of(
    st.none(),
    st.dictionaries(
        TRICKY, st.one_of(st.text(max_size=3), st.booleans(), st.integers(0, 1), st.just(1.0))
    ),
)
OUTPUTS = st.lists(
    st.builds(
        Tensor,
        st.one_of(st.text(max_size=9), st.just("\ud800")),
        st.sampled_from(["FP64", "UINT8", "BYTES"]),
        st.lists(st.integers(0, 300), max_size=3),
        st.one_of(st.binary(max_size=300), st.binary(max_size=9).map(memoryview)),
        PARAMETERS,
    ),
    max_size=3,
)
ANSWERS = st.tuples(
    st.builds(InferenceResponse, OUTPUTS, PARAMETERS),
    TRICKY,
    st.one_of(st.none(), TRICKY),
    st.one_of(st.text(max_size=3), st.just("\ud800"), st.just("i" * 256)),
)


@given(st.lists(ANSWERS, max_size=5))
@example([(InferenceResponse([], {"a": value}), "m", None, "") for value in (1, True, 1.0, "1")])
def test_a_written_answer_is_what_protobuf_writes(
    answers: list[tuple[InferenceResponse, str, str | None, str]],
) -> None:
    known = KnownAnswers()
    for response, model, version, id in answers * 2:
        written = known.write(response, model, version, id)
        if written is not None:
            assert pb.ModelInferResponse.FromString(written) == encode_response(
                response, model_name=model, model_version=version, id=id, raw=True
            )


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=5),
    st.lists(st.tuples(TRICKY, st.sampled_from([[], [2], [0]]), PARAMETERS), max_size=3),
    PARAMETERS,
    st.binary(min_size=8 * 15 * 2, max_size=8 * 15 * 2),
)
def test_a_written_part_of_a_batch_is_what_protobuf_writes(
    counts: list[int], outputs: list[Any], parameters: Any, elements: bytes
) -> None:
    rows = sum(counts)
    tensors = [
        Tensor(name, "FP64", [rows, *trailing], elements[: 8 * rows * prod(trailing)], own)
        for name, trailing, own in outputs
    ]
    known = KnownAnswers()
    for number, part in enumerate(parts(InferenceResponse(tensors, parameters), counts)):
        # Models may have several names.
        for name in ("m", "n"):
            written = known.write(part, name, None, str(number))
            if written is not None:
                assert pb.ModelInferResponse.FromString(written) == encode_response(
                    part, model_name=name, model_version=None, id=str(number), raw=True
                )


def test_an_answer_with_texts_for_parameters_is_written() -> None:
    texts = {"content_type": "np"}
    response = InferenceResponse([Tensor("y", "FP64", [1], bytes(8), texts)], texts)

    written = KnownAnswers().write(response, "m", "1", "i")
    expected = encode_response(response, model_name="m", model_version="1", id="i", raw=True)
    assert written == expected.SerializeToString()


def test_numbers_with_missing_values_are_left_to_protobuf() -> None:
    response = InferenceResponse([nullable.tensor("y", "INT64", [1], [5])])

    assert KnownAnswers().write(response, "m", "1", "i") is None

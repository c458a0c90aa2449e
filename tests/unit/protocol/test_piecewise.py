"""What is put together in pieces is what would be encoded at once, for every protocol."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import AnswerTooLarge, BadModelOutput
from headrace.protocol import blocks, nullable, piecewise
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.mlflow import large_answer, scoring_answer
from headrace.protocol.open_inference import grpc_large, grpc_messages, rest_json, rest_large
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.grpc_contents import FIELDS, varint
from headrace.protocol.tensor import Tensor, pack_bytes

NUMPY = {
    "FP64": "<f8", "FP32": "<f4", "FP16": "<f2", "BF16": "<u2", "INT64": "<i8", "INT8": "|i1",
    "UINT64": "<u8", "BOOL": "|b1",
}  # fmt: skip
INTEGERS = [name for name, kind in DATATYPES.items() if kind.is_integer and name in FIELDS]
NEVER = 10**12


def numbers(datatype: str, shape: list[int], name: str = "x") -> Tensor:
    values = np.random.default_rng(0).random(int(np.prod(shape))) * 100
    return Tensor(name, datatype, shape, values.astype(NUMPY[datatype]).tobytes(), {"p": 1})


def texts(elements: list[str], shape: list[int], name: str = "s") -> Tensor:
    return Tensor(name, "BYTES", shape, pack_bytes([each.encode() for each in elements]))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that there are many in a small answer."""
    for module in (blocks, piecewise, large_answer, rest_large, grpc_large):
        for name, value in (("STEP", 64), ("MOST", 7)):
            monkeypatch.setattr(module, name, value, raising=False)


def both(monkeypatch: pytest.MonkeyPatch, module: Any, encode: Any) -> list[Any]:
    found = []
    for size in (0, NEVER):
        monkeypatch.setattr(module, "LARGE", size)
        found.append(encode())
    return found


ANSWERS = [
    *([numbers(datatype, shape)] for datatype in NUMPY for shape in ([1], [50], [10, 5], [1, 50])),
    [numbers("FP64", []), numbers("INT8", [3, 2, 4], "y")],
    [numbers("FP64", [0]), numbers("FP64", [0, 3], "y"), numbers("FP64", [3, 0], "z")],
    [texts(["a", 'é"\n', "", "\u2028😀"] * 10, [40])],
    [texts(["a"] * 40, [20, 2]), texts(["b"] * 20, [20], "t")],
    [texts(["😀" * 200, "b"], [2]), texts(["é" * 500], [], "t")],
    [nullable.tensor("n", "INT64", [20], [1, None] * 10), numbers("FP32", [20], "y")],
    [numbers("FP64", [30], "a"), texts(["c"] * 29 + ["d" * 900], [30], "b")],
]


@pytest.mark.parametrize("outputs", ANSWERS, ids=str)
@pytest.mark.parametrize("binary", [(), ("x", "s", "y")], ids=["json", "binary"])
def test_an_answer_of_v2(
    monkeypatch: pytest.MonkeyPatch, outputs: list[Tensor], binary: tuple[str, ...]
) -> None:
    response = InferenceResponse(outputs, {"a": [1]})
    names = {"model_name": "m", "model_version": "1", "id": "i", "binary_outputs": binary}
    pieces, whole = both(
        monkeypatch, rest_json, lambda: rest_json.encode_response(response, **names)
    )

    assert pieces == whole


@pytest.mark.parametrize("outputs", ANSWERS, ids=str)
@pytest.mark.parametrize("kind", ["np", "dict", "pd"])
def test_an_answer_of_mlflow(
    monkeypatch: pytest.MonkeyPatch, outputs: list[Tensor], kind: str
) -> None:
    response = InferenceResponse(outputs, {"content_type": kind})

    def encode() -> bytes | str:
        try:
            return scoring_answer.encode(response)
        except BadModelOutput as error:
            return error.message

    pieces, whole = both(monkeypatch, scoring_answer, encode)

    assert pieces == whole


@pytest.mark.parametrize("outputs", ANSWERS, ids=str)
@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_an_answer_of_grpc(
    monkeypatch: pytest.MonkeyPatch, outputs: list[Tensor], raw: bool
) -> None:
    if any(tensor.datatype == "BYTES" and tensor.parameters for tensor in outputs):
        outputs = [tensor for tensor in outputs if not nullable.datatype_of(tensor)]
    response = InferenceResponse(outputs, {"a": "1"})
    names: dict[str, Any] = {"model_name": "m", "model_version": "1", "id": "i", "raw": raw}
    pieces, whole = both(
        monkeypatch,
        grpc_messages,
        lambda: pb.ModelInferResponse.FromString(
            grpc_messages.encode_response(response, **names).SerializeToString()
        ),
    )

    assert pieces == whole


@given(st.lists(st.text(max_size=40), max_size=30))
@settings(deadline=None)
def test_blocks_of_texts_are_all_of_them_in_order(elements: list[str]) -> None:
    tensor = texts(elements, [len(elements)])

    found = [bytes(each) for block in blocks.blocks(tensor) for each in blocks.elements(block)]

    assert found == [each.encode() for each in elements]


@pytest.mark.parametrize(
    "data",
    [b"\1", b"\1\0\0\0", pack_bytes([b"a", b"b", b"c"]), b"\xff\xff\xff\xff" * 2],
    ids=["no length", "no element", "one more", "far too long"],
)
def test_texts_that_do_not_fit_their_shape_are_refused(data: bytes) -> None:
    with pytest.raises(BadModelOutput, match="output 's'"):
        list(blocks.blocks(Tensor("s", "BYTES", [2], data)))


@pytest.mark.parametrize(
    ("module", "encode"),
    [
        (rest_json, lambda response: rest_json.encode_response(
            response, model_name="m", model_version=None, id="")),
        (scoring_answer, scoring_answer.encode),
    ],
    ids=["v2", "mlflow"],
)  # fmt: skip
def test_a_large_element_that_is_no_text_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, module: Any, encode: Any
) -> None:
    monkeypatch.setattr(module, "LARGE", 0)
    tensor = Tensor("s", "BYTES", [1], pack_bytes([b"\xff" * 500]))

    with pytest.raises(BadModelOutput, match="output 's'.*UTF-8"):
        encode(InferenceResponse([tensor]))


@pytest.mark.parametrize("outputs", ANSWERS, ids=str)
def test_no_encoder_gets_much_at_once(
    monkeypatch: pytest.MonkeyPatch, outputs: list[Tensor]
) -> None:
    written: list[int] = []
    dumps = orjson.dumps

    def counting(*arguments: Any, **options: Any) -> bytes:
        text = dumps(*arguments, **options)
        written.append(len(text))
        return text

    monkeypatch.setattr(orjson, "dumps", counting)
    response = InferenceResponse(outputs)
    monkeypatch.setattr(rest_json, "LARGE", 0)
    monkeypatch.setattr(scoring_answer, "LARGE", 0)
    rest_json.encode_response(response, model_name="m", model_version=None, id="")
    with suppress(BadModelOutput):
        scoring_answer.encode(response)

    # A number of a byte may be four characters and a comma, and one of text six of each byte.
    assert max(written) < 6 * 2 * 64


@pytest.mark.parametrize("low", [-200, 0])
@pytest.mark.parametrize("datatype", INTEGERS)
def test_typed_integers_that_are_too_large_are_refused_before_they_are_encoded(
    datatype: str, low: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = DATATYPES[datatype]
    edges = [
        0,
        low,
        kind.low,
        kind.high,
        *(2**bit - up for bit in range(7, 64, 7) for up in (0, 1)),
    ]
    values = [each for each in edges if kind.low <= each <= kind.high] * 5
    data = np.array(values, kind.numpy).tobytes()
    response = InferenceResponse([Tensor("y", datatype, [len(values)], data)])
    contents = pb.InferTensorContents()
    getattr(contents, FIELDS[datatype].name).extend(values)
    size = len(contents.SerializeToString()) - 1 - len(varint(contents.ByteSize()))

    monkeypatch.setattr(grpc_large, "LARGEST", size)
    grpc_large.encode_large(pb.ModelInferResponse(), response, raw=False)
    monkeypatch.setattr(grpc_large, "LARGEST", size - 1)
    monkeypatch.setattr(grpc_large, "write_contents", None)
    with pytest.raises(AnswerTooLarge, match=f"output 'y' has more than {size - 1} bytes"):
        grpc_large.encode_large(pb.ModelInferResponse(), response, raw=False)

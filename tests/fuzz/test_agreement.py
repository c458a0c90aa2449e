"""Whatever the transport, a request means the same and an answer has the same bits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz.figures import SEED, amount, counted
from fuzz.inference_decoders import shown
from headrace.batching import policy
from headrace.codecs import decode_request
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.mlflow import scoring
from headrace.protocol.open_inference import grpc_messages, rest_json
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.grpc_contents import FIELDS
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes
from headrace.runtimes.mlflow.scoring_payload import Payload

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore")]

# JSON has no form for these bits, and messages none for these types.
RAW_ONLY = ("FP16", "BF16")
COUNT = amount(400, 100_000)


@st.composite
def tensors(draw: Any, name: str = "x", finite: bool = True) -> Tensor:
    kind = DATATYPES[draw(st.sampled_from(sorted(DATATYPES)))]
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    count = int(np.prod(shape))
    if kind.name == "BYTES":
        texts = draw(st.lists(st.text(max_size=5), min_size=count, max_size=count))
        return Tensor(name, kind.name, shape, pack_bytes([text.encode() for text in texts]))
    data = draw(st.binary(min_size=count * kind.itemsize, max_size=count * kind.itemsize))
    if kind.name == "BOOL":
        data = bytes(byte % 2 for byte in data)
    if kind.is_float and finite:
        data = _finite(kind.name, data)
    return Tensor(name, kind.name, shape, data)


def _finite(datatype: str, data: bytes) -> bytes:
    """The same with zero in place of NaN and infinities, which JSON does not have."""
    if datatype == "BF16":
        wide = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        return (
            np.where(np.isfinite(wide), np.frombuffer(data, np.uint16), 0).astype("<u2").tobytes()
        )
    values = np.frombuffer(data, DATATYPES[datatype].numpy)
    return np.where(np.isfinite(values), values, values.dtype.type(0)).tobytes()


def elements(tensor: Tensor) -> list[Any]:
    """The elements as JSON has them, flat."""
    if tensor.datatype == "BYTES":
        count = int(np.prod(tensor.shape))
        return [each.decode() for each in unpack_bytes(tensor.data, count)]
    if tensor.datatype == "BF16":
        wide = np.frombuffer(tensor.data, np.uint16).astype(np.uint32) << 16
        return list(wide.view(np.float32).tolist())
    return list(np.frombuffer(tensor.data, DATATYPES[tensor.datatype].numpy).tolist())


def described(tensor: Tensor, **more: Any) -> dict[str, Any]:
    return {
        "name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), **more
    }  # fmt: skip


def by_json(given: list[Tensor]) -> InferenceRequest:
    inputs = [described(each, data=elements(each)) for each in given]
    return rest_json.decode_request(json.dumps({"inputs": inputs}).encode()).request


def by_nested_json(given: list[Tensor]) -> InferenceRequest:
    inputs = [
        described(each, data=np.array(elements(each), object).reshape(each.shape).tolist())
        for each in given
    ]
    return rest_json.decode_request(json.dumps({"inputs": inputs}).encode()).request


def by_binary(given: list[Tensor]) -> InferenceRequest:
    inputs = [described(t, parameters={"binary_data_size": len(t.data)}) for t in given]
    head = json.dumps({"inputs": inputs}).encode()
    body = head + b"".join(bytes(each.data) for each in given)
    return rest_json.decode_request(body, len(head)).request


def by_message(given: list[Tensor]) -> InferenceRequest:
    message = pb.ModelInferRequest()
    for each in given:
        message.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        message.raw_input_contents.append(bytes(each.data))
    sent = pb.ModelInferRequest.FromString(message.SerializeToString())
    return grpc_messages.decode_request(sent).request


def by_typed_message(given: list[Tensor]) -> InferenceRequest:
    message = pb.ModelInferRequest()
    for each in given:
        if each.datatype in RAW_ONLY:
            return by_message(given)
        item = message.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        values = elements(each)
        texts = [value.encode() if isinstance(value, str) else value for value in values]
        getattr(item.contents, FIELDS[each.datatype].name).extend(texts)
    sent = pb.ModelInferRequest.FromString(message.SerializeToString())
    return grpc_messages.decode_request(sent).request


def tried(what: str, check: Callable[..., None], **strategies: Any) -> None:
    """Try a property with as many examples as are wanted, and write down how many."""
    with counted("examples of properties", what) as tally:

        def counting(**drawn: Any) -> None:
            tally.count += 1
            check(**drawn)

        wanted = settings(
            max_examples=COUNT,
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        seed(SEED)(wanted(given(**strategies)(counting)))()


def test_a_request_means_the_same_over_every_transport() -> None:
    def check(first: Tensor, second: Tensor) -> None:
        sent = [first, second]
        expected = shown(InferenceRequest(sent))
        for decode in (by_json, by_nested_json, by_binary, by_message, by_typed_message):
            assert shown(decode(sent)) == expected, decode

    tried("requests over every transport", check, first=tensors("a"), second=tensors("b"))


def test_a_raw_request_keeps_its_bits() -> None:
    def check(tensor: Tensor) -> None:
        expected = shown(InferenceRequest([tensor]))
        assert shown(by_binary([tensor])) == expected
        assert shown(by_message([tensor])) == expected

    tried("bits of raw requests", check, tensor=tensors(finite=False))


def test_an_answer_means_the_same_over_every_transport() -> None:
    def check(first: Tensor, second: Tensor) -> None:
        answer = InferenceResponse([first, second])
        names = {"model_name": "m", "model_version": None, "id": "7"}
        text, _ = rest_json.encode_response(answer, **names)
        # Read as the inputs of a request, which has to bring the same bits back.
        inputs = json.dumps({"inputs": json.loads(text)["outputs"]}).encode()
        expected = shown(InferenceRequest([first, second]))
        assert shown(rest_json.decode_request(inputs).request) == expected
        body, length = rest_json.encode_response(answer, binary_outputs={"a", "b"}, **names)
        assert body[length:] == bytes(first.data) + bytes(second.data)
        for raw in (True, False):
            message = grpc_messages.encode_response(answer, raw=raw, **names)
            request = pb.ModelInferRequest(raw_input_contents=message.raw_output_contents)
            for output in message.outputs:
                request.inputs.add(
                    name=output.name, datatype=output.datatype, shape=output.shape,
                    contents=output.contents,
                )  # fmt: skip
            assert shown(grpc_messages.decode_request(request).request) == expected

    tried("answers over every transport", check, first=tensors("a"), second=tensors("b"))


def test_a_batch_gives_each_request_its_own_rows() -> None:
    def check(tensor: Tensor, cuts: list[int]) -> None:
        rows = tensor.shape[0]
        ends = sorted({min(cut, rows) for cut in cuts} | {0, rows})
        counts = [end - start for start, end in zip(ends, ends[1:], strict=False)]
        whole = InferenceResponse([tensor])
        parts = policy.split(whole, counts)
        requests = [InferenceRequest(part.outputs) for part in parts]
        merged = policy.merge(requests)
        assert shown(merged) == shown(InferenceRequest([tensor], id=merged.id))
        again = policy.split(InferenceResponse(merged.inputs), counts)
        assert [shown(InferenceRequest(part.outputs)) for part in again] == list(
            map(shown, requests)
        )

    cuts = st.lists(st.integers(0, 4), max_size=3)
    tried("batches split and merged", check, tensor=tensors(finite=False), cuts=cuts)


def test_a_table_of_csv_is_what_pandas_reads() -> None:
    payload = Payload(None, {}, lambda request: decode_request(request, "pd"))

    def check(table: dict[str, list[Any]]) -> None:
        size = min(map(len, table.values()))
        frame = pd.DataFrame({name: cells[:size] for name, cells in table.items()})
        body = frame.to_csv(index=False).encode()
        expected = pd.read_csv(io.BytesIO(body), float_precision="round_trip")
        found, _ = payload.decode(scoring.decode(body, "text/csv", None).request)
        pd.testing.assert_frame_equal(found, expected)

    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
    kinds = (st.integers(-(2**63), 2**63 - 1), st.floats(), text, st.booleans())
    cells = st.one_of([st.lists(kind, min_size=1, max_size=4) for kind in kinds])
    tables = st.dictionaries(st.sampled_from(["a", "b", "c d", 'e"']), cells, min_size=1)
    tried("CSV as pandas reads it", check, table=tables)

"""The forms of a request, and how the predictions are read from an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headrace.protocol.open_inference import inference_pb2 as pb

METHOD = "/inference.GRPCInferenceService/ModelInfer"
# Of a prediction's digits, those that do not depend on the order of its sums.
DIGITS = 11
# Predictions of a large answer that are compared while there is load.
COMPARED = 20


@dataclass(frozen=True)
class Message:
    """A request's body and headers."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True)
class Form:
    """`encode` makes a request of rows, `decode` finds the predictions in an answer.

    `part` is what an answer with these predictions must contain. The answers of an echo are not
    `compared`.
    """

    path: str
    encode: Callable[[Any], Message]
    decode: Callable[[bytes], list[float]]
    part: Callable[[Sequence[float]], bytes]
    compared: bool = True


def digits(predictions: Sequence[float]) -> bytes:
    """The beginning of the only prediction as JSON has it."""
    return repr(predictions[0])[:DIGITS].encode()


def many(predictions: Sequence[float]) -> bytes:
    """The first predictions as JSON has them; they are exact."""
    return ",".join(repr(each) for each in predictions[:COMPARED]).encode()


def raw(predictions: Sequence[float]) -> bytes:
    """The first predictions as FP64."""
    return np.array(predictions[:COMPARED], "<f8").tobytes()


def tensor(model: str, part: Callable[[Sequence[float]], bytes] = digits) -> Form:
    """The Open Inference Protocol: one tensor as JSON."""
    return Form(infer(model), lambda rows: _json({"inputs": [_tensor(rows)]}), _outputs, part)


def columns(model: str, names: Sequence[str]) -> Form:
    """The Open Inference Protocol: a tensor for each column."""

    def encode(rows: Any) -> Message:
        inputs = [
            {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": column.tolist()}
            for name, column in zip(names, rows.T, strict=True)
        ]
        return _json({"inputs": inputs})

    return Form(infer(model), encode, _outputs, digits)


def binary(model: str) -> Form:
    """The Open Inference Protocol: one tensor in binary, and its answer."""

    def encode(rows: Any) -> Message:
        data = rows.tobytes()
        described = {
            "name": "input-0", "shape": list(rows.shape), "datatype": _datatype(rows),
            "parameters": {"binary_data_size": len(data)},
        }  # fmt: skip
        asked = {"inputs": [described], "parameters": {"binary_data_output": True}}
        head = _json(asked).body
        lengths = {"Inference-Header-Content-Length": str(len(head))}
        return Message(head + data, lengths, "application/octet-stream")

    def decode(answer: bytes) -> list[float]:
        _, end = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
        return np.frombuffer(answer[end:], np.float64).tolist()

    return Form(infer(model), encode, decode, raw)


def invocations(names: Sequence[str]) -> Form:
    """MLflow's scoring protocol, `dataframe_split`."""

    def encode(rows: Any) -> Message:
        return _json({"dataframe_split": {"columns": list(names), "data": rows.tolist()}})

    return Form("/invocations", encode, _predictions, digits)


def rows_under(path: str, key: str) -> Form:
    """A JSON object with all rows under one key, answered by a list of predictions."""
    return Form(path, lambda rows: _json({key: rows.tolist()}), json.loads, digits)


def row_under(path: str, key: str, answered: str) -> Form:
    """A JSON object with one row, answered by an object with one prediction."""
    return Form(
        path,
        lambda rows: _json({key: rows[0].tolist()}),
        lambda answer: [json.loads(answer)[answered]],
        digits,
    )


def grpc(model: str) -> Form:
    """The Open Inference Protocol over gRPC, with the tensor's bytes."""

    def encode(rows: Any) -> Message:
        message = pb.ModelInferRequest(model_name=model)
        message.inputs.add(name="input-0", datatype=_datatype(rows), shape=rows.shape)
        message.raw_input_contents.append(rows.tobytes())
        return Message(message.SerializeToString(), content_type="application/grpc")

    def decode(answer: bytes) -> list[float]:
        message = pb.ModelInferResponse.FromString(answer)
        if message.raw_output_contents:
            return np.frombuffer(message.raw_output_contents[0], np.float64).tolist()
        return list(message.outputs[0].contents.fp64_contents)

    return Form(METHOD, encode, decode, raw)


def echoed(form: Form) -> Form:
    """The same request to a server that answers with fixed bytes, of which none is compared."""
    return replace(form, compared=False)


def infer(model: str) -> str:
    """The path of a model."""
    return f"/v2/models/{model}/infer"


def _tensor(rows: Any) -> dict[str, Any]:
    data = rows.ravel().tolist()
    return {"name": "input-0", "shape": list(rows.shape), "datatype": _datatype(rows), "data": data}


def _datatype(rows: Any) -> str:
    return f"FP{8 * rows.dtype.itemsize}"


def _json(value: Any) -> Message:
    return Message(json.dumps(value, separators=(",", ":")).encode())


def _outputs(answer: bytes) -> list[float]:
    data: list[float] = json.loads(answer)["outputs"][0]["data"]
    return data


def _predictions(answer: bytes) -> list[float]:
    predictions: list[float] = json.loads(answer)["predictions"]
    return predictions

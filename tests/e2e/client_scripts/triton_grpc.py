"""Calls a server over gRPC with Triton's own client.

`triton_grpc.py HOST:PORT` prints one JSON object; the server has models `wine` and `echo`.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

ARRAYS = {
    "FP64": np.array([0.1, 1 / 3, 1e300, -0.0]),
    "FP32": np.array([[0.1, 2.5], [-1e30, 3.0]], dtype=np.float32),
    "FP16": np.array([0.5, -65504.0], dtype=np.float16),
    "INT64": np.array([2**53 + 1, -(2**63)], dtype=np.int64),
    "UINT8": np.array([0, 255], dtype=np.uint8),
    "BOOL": np.array([True, False]),
    "BYTES": np.array([b"headrace", b"", b"\x00\xff"], dtype=object),
}


def tensor(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def echoes(client: triton.InferenceServerClient) -> dict:
    """Which datatypes come back the same."""
    same = {}
    for datatype, array in ARRAYS.items():
        answer = client.infer("echo", [tensor("x", array, datatype)]).as_numpy("x")
        same[datatype] = bool(
            answer.dtype == array.dtype
            and answer.shape == array.shape
            and answer.tolist() == array.tolist()
        )
    return same


def zipped(client: triton.InferenceServerClient) -> dict:
    array = np.arange(2000) / 7
    found = {}
    for algorithm in ("gzip", "deflate"):
        asked = [tensor("x", array, "FP64")]
        try:
            result = client.infer("echo", asked, compression_algorithm=algorithm)
        except InferenceServerException as refused:
            found[algorithm] = refused.status()
        else:
            found[algorithm] = result.as_numpy("x").tobytes() == array.tobytes()
    return found


def wine(client: triton.InferenceServerClient) -> dict:
    """Three wines as eleven columns."""
    names = [each["name"] for each in client.get_model_metadata("wine", as_json=True)["inputs"]]
    rows = {name: np.array([1.0, 2.0, 3.5]) * (n + 1) for n, name in enumerate(names)}
    asked = [tensor(name, row, "FP64") for name, row in rows.items()]
    result = client.infer("wine", asked, request_id="abc")
    response = result.get_response()
    return {
        "rows": {name: row.tolist() for name, row in rows.items()},
        "answer": result.as_numpy(response.outputs[0].name).ravel().tolist(),
        "id": response.id,
        "model_name": response.model_name,
    }


def parameters(client: triton.InferenceServerClient) -> dict:
    asked = [tensor("x", np.array([1.0]), "FP64")]
    sent = {"a": 1, "b": "two", "c": True}
    response = client.infer("echo", asked, parameters=sent).get_response()
    return {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in response.parameters.items()
    }


def error(call, *arguments, **options) -> dict:
    try:
        call(*arguments, **options)
    except InferenceServerException as refused:
        return {"message": refused.message(), "status": refused.status()}
    return {"message": "", "status": "no error"}


def errors(client: triton.InferenceServerClient) -> dict:
    one = [tensor("alcohol", np.array([9.5]), "FP64")]
    return {
        "missing columns": error(client.infer, "wine", one),
        "unknown model": error(client.infer, "nobody", one),
        "metadata of an unknown model": error(client.get_model_metadata, "nobody"),
        "trace settings": error(client.get_trace_settings, "wine"),
    }


def main() -> None:
    with triton.InferenceServerClient(sys.argv[1]) as client:
        found = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("wine"),
            "server": client.get_server_metadata(as_json=True),
            "metadata": client.get_model_metadata("wine", as_json=True),
            "index": client.get_model_repository_index(as_json=True),
            "echoes": echoes(client),
            "zipped": zipped(client),
            "wine": wine(client),
            "parameters": parameters(client),
            "errors": errors(client),
        }
        client.unload_model("echo")
        found["unloaded"] = client.is_model_ready("echo")
        client.load_model("echo")
        found["loaded"] = client.is_model_ready("echo")
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

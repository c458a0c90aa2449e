"""Sends a server everything that a Triton user sends, with Triton's own client.

`triton_http.py HOST:PORT` prints one JSON object; the server has models `wine`, `echo`, `blobs`.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

ARRAYS = {
    "FP64": np.array([0.1, 1 / 3, 1e300, -0.0]),
    "FP32": np.array([[0.1, 2.5], [-1e30, 3.0]], dtype=np.float32),
    "INT64": np.array([2**53 + 1, -(2**63)], dtype=np.int64),
    "BYTES": np.array(["headrace", "", "Mühle ✓"], dtype=object),
}
RAW = np.array([b"\x00\xff\xfe", b"mill"], dtype=object)


def tensor(name: str, array: np.ndarray, datatype: str, binary: bool) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def output(binary: bool) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput("output-1", binary_data=binary)]


def texts(array: np.ndarray) -> list:
    """An answer in a form that JSON can represent."""
    return [x.decode() if isinstance(x, bytes) else x for x in array.ravel().tolist()]


def echoes(client: triton.InferenceServerClient) -> dict:
    """Which datatypes come back the same, by how they are sent and received."""
    same = {}
    for datatype, array in ARRAYS.items():
        for binary_in in (False, True):
            for binary_out in (False, True):
                asked = [tensor("x", array, datatype, binary_in)]
                result = client.infer("echo", asked, outputs=output(binary_out))
                answer, described = result.as_numpy("output-1"), result.get_output("output-1")
                key = f"{datatype} {'binary' if binary_in else 'json'}"
                same[f"{key} to {'binary' if binary_out else 'json'}"] = bool(
                    described["datatype"] == datatype
                    and ("data" not in described) == binary_out
                    and list(answer.shape) == list(array.shape)
                    and texts(answer) == texts(array)
                )
    return same


def raw_bytes(client: triton.InferenceServerClient) -> bool:
    """Whether bytes that are not text pass in binary form."""
    asked = [tensor("x", RAW, "BYTES", True)]
    answer = client.infer("blobs", asked, outputs=[triton.InferRequestedOutput("x")])
    return answer.as_numpy("x").tolist() == RAW.tolist()


def zipped(client: triton.InferenceServerClient) -> dict:
    """A request and an answer of 2,000 numbers, compressed, in both forms."""
    array = np.arange(2000) / 7
    found = {}
    for binary in (False, True):
        for algorithm in ("gzip", "deflate"):
            result = client.infer(
                "echo",
                [tensor("x", array, "FP64", binary)],
                outputs=output(binary),
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            same = result.as_numpy("output-1").tobytes() == array.tobytes()
            found[f"{algorithm} {'binary' if binary else 'json'}"] = same
    return found


def wine(client: triton.InferenceServerClient) -> dict:
    """Three wines as eleven columns; by default, this client asks for binary outputs."""
    names = [each["name"] for each in client.get_model_metadata("wine")["inputs"]]
    rows = {name: np.array([1.0, 2.0, 3.5]) * (n + 1) for n, name in enumerate(names)}
    asked = [tensor(name, row, "FP64", True) for name, row in rows.items()]
    result = client.infer("wine", asked, request_id="abc")
    response = result.get_response()
    return {
        "rows": {name: row.tolist() for name, row in rows.items()},
        "answer": result.as_numpy(response["outputs"][0]["name"]).ravel().tolist(),
        "id": response.get("id"),
        "model_name": response.get("model_name"),
    }


def later(client: triton.InferenceServerClient) -> list:
    """The client's own concurrency."""
    array = np.arange(3.0)
    calls = [
        client.async_infer("echo", [tensor("x", array + n, "FP64", True)], outputs=output(True))
        for n in range(4)
    ]
    return [call.get_result().as_numpy("output-1").tolist() for call in calls]


def error(call, *arguments, **options) -> dict:
    try:
        call(*arguments, **options)
    except InferenceServerException as refused:
        return {"message": refused.message(), "status": refused.status()}
    return {"message": "", "status": "no error"}


def errors(client: triton.InferenceServerClient) -> dict:
    one = [tensor("alcohol", np.array([9.5]), "FP64", False)]
    return {
        "missing columns": error(client.infer, "wine", one),
        "missing columns, binary": error(
            client.infer, "wine", [tensor("alcohol", np.array([9.5]), "FP64", True)]
        ),
        "unknown model": error(client.infer, "nobody", one),
        "metadata of an unknown model": error(client.get_model_metadata, "nobody"),
        "trace settings": error(client.get_trace_settings, "wine"),
    }


def main() -> None:
    with triton.InferenceServerClient(sys.argv[1], concurrency=4) as client:
        found = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("wine"),
            "unknown_ready": client.is_model_ready("nobody"),
            "server": client.get_server_metadata(),
            "metadata": client.get_model_metadata("wine"),
            "echoes": echoes(client),
            "raw_bytes": raw_bytes(client),
            "zipped": zipped(client),
            "wine": wine(client),
            "later": later(client),
            "errors": errors(client),
        }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

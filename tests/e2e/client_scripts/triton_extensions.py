"""Uses what Triton's clients have besides inference, over HTTP or gRPC.

`triton_extensions.py http|grpc HOST:PORT` prints one JSON object; the server has models `echo`,
`scores` with the labels of its output, and `waits`, which does not answer.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

KIND = sys.argv[1]
triton = importlib.import_module(f"tritonclient.{KIND}")
# gRPC's answers as JSON, which is all that HTTP has.
AS_JSON = {"as_json": True} if KIND == "grpc" else {}


def tensor(array: np.ndarray, name: str = "x", datatype: str = "FP64") -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def classes(client: Any, model: str, array: np.ndarray, count: int, **options: Any) -> Any:
    output = "x" if model == "echo" else "output-1"
    wanted = [triton.InferRequestedOutput(output, class_count=count, **options)]
    found = client.infer(model, [tensor(array)], outputs=wanted).as_numpy(output)
    # Bytes where they are raw, and text where they are in JSON.
    return np.atleast_2d(found).astype(str).tolist()


def error(call: Any, *arguments: Any, **options: Any) -> str:
    try:
        call(*arguments, **options)
    except InferenceServerException as refused:
        return refused.message()
    return "no error"


def in_shared_memory() -> Any:
    made = triton.InferInput("x", [1], "FP64")
    made.set_shared_memory("region", 8)
    return made


def wants_shared_memory() -> Any:
    wanted = triton.InferRequestedOutput("x")
    wanted.set_shared_memory("region", 8)
    return wanted


def errors(client: Any) -> dict:
    one = [tensor(np.array([1.0]))]
    return {
        "priority": error(client.infer, "echo", one, priority=2),
        "sequence_id": error(
            client.infer, "echo", one, sequence_id=7, sequence_start=True, sequence_end=True
        ),
        "timeout": error(client.infer, "waits", one, timeout=50_000),
        "negative timeout": error(client.infer, "echo", one, timeout=-1),
        "shared input": error(client.infer, "echo", [in_shared_memory()]),
        "shared output": error(client.infer, "echo", one, outputs=[wants_shared_memory()]),
        "shared memory": error(client.register_system_shared_memory, "region", "/region", 8),
        "cuda shared memory": error(client.get_cuda_shared_memory_status),
        "text classes": error(
            client.infer,
            "echo",
            [tensor(np.array([b"a"], dtype=object), datatype="BYTES")],
            outputs=[triton.InferRequestedOutput("x", class_count=1)],
        ),
    }


def main() -> None:
    rows = np.array([[0.25, 0.5, 0.125], [3.0, 1.0, 3.0]])
    with triton.InferenceServerClient(sys.argv[2]) as client:
        before = client.get_inference_statistics("echo", **AS_JSON)
        patient = client.infer("echo", [tensor(rows)], timeout=30_000_000)
        found = {
            "classes": classes(client, "echo", rows, 2),
            "labelled": classes(client, "scores", rows, 3),
            "more than there are": classes(client, "echo", np.array([1.0, 5.0]), 10),
            "patient": patient.as_numpy("x").tolist(),
            "errors": errors(client),
            "before": before,
            "statistics": client.get_inference_statistics("echo", **AS_JSON),
            "all": client.get_inference_statistics(**AS_JSON),
            "unknown": error(client.get_inference_statistics, "nobody"),
            "config": client.get_model_config("scores", **AS_JSON),
        }
        if KIND == "http":
            found["in json"] = classes(client, "echo", rows, 1, binary_data=False)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

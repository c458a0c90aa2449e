"""Streams over gRPC with Triton's own client, blocking and asynchronous.

`triton_stream.py HOST:PORT` prints one JSON object; the server has models `echo`, and `counter`,
which answers as many times as its input says.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as aio

FINAL = "triton_final_response"


def asked(model: str, number: float, id: str) -> dict:
    made = triton.InferInput("x", [1], "FP64")
    made.set_data_from_numpy(np.array([number]))
    return {"model_name": model, "inputs": [made], "request_id": id}


REQUESTS = [
    asked("echo", 1.5, "a"),
    asked("counter", 3.0, "b"),
    asked("nobody", 1.0, "c"),
    asked("fails", 1.0, "d"),
    asked("echo", 2.5, "e"),
]


def told(result: Any, error: Any) -> list:
    """The id of an answer, its value or its error, and whether it is its request's last."""
    if error is not None:
        return ["", error.message(), None]
    response = result.get_response()
    value = result.as_numpy(response.outputs[0].name).tolist() if response.outputs else None
    final = response.parameters[FINAL].bool_param
    return [response.id, value, final]


def blocking(expected: int, headers: Any = None, **options: Any) -> list:
    answers: queue.Queue = queue.Queue()
    with triton.InferenceServerClient(sys.argv[1]) as client:
        client.start_stream(lambda result, error: answers.put(told(result, error)), headers=headers)
        for each in REQUESTS:
            client.async_stream_infer(**each, **options)
        found = [answers.get(timeout=30) for _ in range(expected)]
        client.stop_stream()
    return found


async def asynchronous() -> list:
    async def requests() -> Any:
        for each in REQUESTS:
            yield each

    async with aio.InferenceServerClient(sys.argv[1]) as client:
        return [told(*each) async for each in client.stream_infer(requests())]


def main() -> None:
    found = {
        "blocking": blocking(7),
        "asynchronous": asyncio.run(asynchronous()),
        "with the end of each": blocking(8, enable_empty_final_response=True),
        # The error ends the stream, and is the last thing that the client is told.
        "ended by an error": blocking(5, headers={"triton_grpc_error": "true"}),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

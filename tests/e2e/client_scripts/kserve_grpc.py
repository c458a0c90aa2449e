"""Calls a server over gRPC with KServe's own client.

`kserve_grpc.py HOST:PORT` prints one JSON object; the server has models `wine` and `echo`.
"""

from __future__ import annotations

import asyncio
import json
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


def asked(model: str, array: np.ndarray, datatype: str, raw: bool) -> InferRequest:
    tensor = InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=raw)
    return InferRequest(model, [tensor], request_id="abc", parameters={"n": 3})


async def echoes(client: InferenceGRPCClient) -> dict:
    arrays = {
        "FP64": np.array([[0.1, 1 / 3], [1e300, -0.0]]),
        "INT64": np.array([2**53 + 1, -(2**63)]),
        "BOOL": np.array([True, False]),
    }
    same = {}
    for datatype, array in arrays.items():
        for raw in (False, True):
            answer = await client.infer(asked("echo", array, datatype, raw))
            back = answer.outputs[0].as_numpy()
            same[f"{datatype} {'raw' if raw else 'typed'}"] = bool(
                back.shape == array.shape and back.tobytes() == array.tobytes()
            )
    return same


async def error(client: InferenceGRPCClient, model: str) -> dict:
    try:
        await client.infer(asked(model, np.array([1.0]), "FP64", raw=True))
    except grpc.RpcError as refused:
        return {"code": refused.code().name, "message": refused.details()}
    return {"code": "no error", "message": ""}


async def main() -> None:
    async with InferenceGRPCClient(sys.argv[1]) as client:
        answer = await client.infer(asked("echo", np.array([1.5]), "FP64", raw=False))
        found = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready("wine"),
            "echoes": await echoes(client),
            "answer": [answer.model_name, answer.id, answer.outputs[0].name],
            "unknown model": await error(client, "nobody"),
            "missing columns": await error(client, "wine"),
        }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())

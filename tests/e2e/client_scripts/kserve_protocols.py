"""Asks one model for the double of a column, with KServe's clients of its three protocols.

`kserve_protocols.py MODEL URL HOST:PORT` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

COLUMN = [[1.0], [2.5]]


def tensors(model: str) -> InferRequest:
    tensor = InferInput("x", [len(COLUMN), 1], "FP64")
    tensor.set_data_from_numpy(np.array(COLUMN), binary_data=False)
    return InferRequest(model, [tensor])


async def main() -> None:
    model, url, address = sys.argv[1:]
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    async with InferenceGRPCClient(address) as grpc_v2:
        ready = [
            await v1.is_model_ready(url, model),
            await v2.is_model_ready(url, model),
            await grpc_v2.is_model_ready(model),
        ]
        answers = {
            "v1": (await v1.infer(url, {"instances": COLUMN}, model_name=model))["predictions"],
            "v2": (await v2.infer(url, tensors(model), model_name=model)).outputs[0].data,
            "grpc-v2": (await grpc_v2.infer(tensors(model))).outputs[0].as_numpy(),
        }
    await v1.close()
    await v2.close()
    found = {name: np.ravel(answer).tolist() for name, answer in answers.items()}
    sys.stdout.write(json.dumps({"ready": ready, **found}))


asyncio.run(main())

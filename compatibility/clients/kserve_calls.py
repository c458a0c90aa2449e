"""What users of `kserve`'s clients call, over REST and gRPC.

`kserve_calls.py HTTP GRPC`; the server has a model `TestModel`, which answers its inputs, and
`NotReadyModel`, which is not loaded.
"""

from __future__ import annotations

import sys
from typing import Any

import calls
import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

MODEL = "TestModel"
ARRAYS = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([0, 255], np.uint8),
    "INT64": np.array([2**53 + 1, -(2**63)], np.int64),
    "FP32": np.array([0.1, -0.0], np.float32),
    "FP64": np.array([[1 / 3], [1e300]]),
    "BYTES": np.array(["ale", "", "Mühle"], object),
}


def request(array: Any, datatype: str, binary: bool, **more: Any) -> InferRequest:
    made = InferInput("x", list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(MODEL, [made], **more)


def texts(array: Any) -> list[Any]:
    return [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]


def same(response: Any, array: Any) -> bool:
    back = response.outputs[0].as_numpy()
    return back.shape == array.shape and texts(back) == texts(array)


def rest(address: str, protocol: str = "v2") -> InferenceRESTClient:
    return InferenceRESTClient(RESTConfig(protocol=protocol))


async def health(address: str) -> None:
    client = rest(address)
    assert await client.is_server_live(address)
    assert await client.is_server_ready(address)
    assert await client.is_model_ready(address, MODEL)
    assert not await client.is_model_ready(address, "NotReadyModel")
    assert not await client.is_model_ready(address, "nobody")


async def every_datatype_in_JSON(address: str) -> None:
    for datatype, array in ARRAYS.items():
        found = await rest(address).infer(address, request(array, datatype, False), MODEL)
        assert same(found, array), datatype


async def every_datatype_in_binary(address: str) -> None:
    for datatype, array in ARRAYS.items():
        asked = request(array, datatype, True, parameters={"binary_data_output": True})
        found = await rest(address).infer(address, asked, MODEL)
        assert same(found, array), datatype


async def FP16_in_binary(address: str) -> None:
    array = np.array([1.1, -65504], np.float16)
    asked = request(array, "FP16", True, parameters={"binary_data_output": True})
    assert same(await rest(address).infer(address, asked, MODEL), array)


async def a_requested_output(address: str) -> None:
    wanted = [RequestedOutput("x", {"binary_data": True})]
    asked = request(ARRAYS["FP64"], "FP64", False, request_outputs=wanted)
    assert same(await rest(address).infer(address, asked, MODEL), ARRAYS["FP64"])


async def id_and_parameters(address: str) -> None:
    asked = request(ARRAYS["FP64"], "FP64", False, request_id="abc", parameters={"n": 3})
    found = await rest(address).infer(address, asked, MODEL)
    assert (found.id, found.model_name) == ("abc", MODEL)


async def an_unknown_model(address: str) -> None:
    status = 0
    try:
        await rest(address).infer(address, request(ARRAYS["FP64"], "FP64", False), "nobody")
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
    assert status == 404


async def v1_health(address: str) -> None:
    client = rest(address, "v1")
    assert await client.is_model_ready(address, MODEL)
    assert not await client.is_model_ready(address, "NotReadyModel")


async def v1_instances(address: str) -> None:
    found = await rest(address, "v1").infer(address, {"instances": [1, 2]}, MODEL)
    assert found == {"predictions": [1, 2]}


async def grpc_health(address: str) -> None:
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(MODEL)
        assert not await client.is_model_ready("NotReadyModel")


async def grpc_every_datatype_typed(address: str) -> None:
    async with InferenceGRPCClient(address) as client:
        for datatype, array in ARRAYS.items():
            assert same(await client.infer(request(array, datatype, False)), array), datatype


async def grpc_every_datatype_raw(address: str) -> None:
    async with InferenceGRPCClient(address) as client:
        for datatype, array in ARRAYS.items():
            assert same(await client.infer(request(array, datatype, True)), array), datatype


async def grpc_id_and_parameters(address: str) -> None:
    asked = request(ARRAYS["FP64"], "FP64", False, request_id="abc", parameters={"n": 3})
    async with InferenceGRPCClient(address) as client:
        found = await client.infer(asked)
    assert (found.id, found.model_name) == ("abc", MODEL)


async def grpc_an_unknown_model(address: str) -> None:
    asked = request(ARRAYS["FP64"], "FP64", False)
    asked.model_name = "nobody"
    async with InferenceGRPCClient(address) as client:
        code = None
        try:
            await client.infer(asked)
        except grpc.RpcError as error:
            code = error.code()
    assert code is grpc.StatusCode.NOT_FOUND


def main() -> None:
    http, grpc_address = sys.argv[1:]
    over_rest = [
        health, every_datatype_in_JSON, every_datatype_in_binary, FP16_in_binary,
        a_requested_output, id_and_parameters, an_unknown_model, v1_health, v1_instances,
    ]  # fmt: skip
    over_grpc = [
        grpc_health, grpc_every_datatype_typed, grpc_every_datatype_raw, grpc_id_and_parameters,
        grpc_an_unknown_model,
    ]  # fmt: skip
    calls.run("REST", over_rest, http)
    calls.run("gRPC", over_grpc, grpc_address)


if __name__ == "__main__":
    main()

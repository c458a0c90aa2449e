"""What users of `tritonclient` call: over HTTP, over gRPC, and asynchronously.

`tritonclient_calls.py HTTP GRPC`; the server has the models of `models/asked_by_clients.py`.
"""

from __future__ import annotations

import queue
import sys
from typing import Any

import calls
import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as aio_grpc
import tritonclient.http as over_http
import tritonclient.http.aio as aio_http
from tritonclient.utils import InferenceServerException

MODEL = "simple_identity"
FINAL = "triton_final_response"
ARRAYS = [
    np.array([[True, False]]),
    np.array([0, 255], np.uint8),
    np.array([2**63 - 1, -(2**63)], np.int64),
    np.array([0.5, -65504], np.float16),
    np.array([0.1, -0.0], np.float32),
    np.array([[1 / 3], [1e300]]),
    np.array([b"ale", b"", b"\xff\x00"], object),
]
DATATYPES = ["BOOL", "UINT8", "INT64", "FP16", "FP32", "FP64", "BYTES"]


def tensor(triton: Any, array: Any, datatype: str, name: str = "INPUT0") -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def number(triton: Any, value: float = 1.5) -> list[Any]:
    return [tensor(triton, np.array([value]), "FP64")]


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return str(error.message())
    raise AssertionError("it was not refused")


def health(client: Any, triton: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("nobody") if triton is over_http else True


def metadata(client: Any, triton: Any) -> None:
    options = {"as_json": True} if triton is over_grpc else {}
    assert client.get_server_metadata(**options)["name"]
    assert client.get_model_metadata("simple", **options)["inputs"][0]["name"] == "INPUT0"


def model_configuration(client: Any, triton: Any) -> None:
    options = {"as_json": True} if triton is over_grpc else {}
    config = client.get_model_config("simple", **options)
    assert config.get("config", config)["input"][0]["data_type"] == "TYPE_INT32"


def statistics(client: Any, triton: Any) -> None:
    options = {"as_json": True} if triton is over_grpc else {}

    def count() -> int:
        (stats,) = client.get_inference_statistics(MODEL, **options)["model_stats"]
        return int(stats.get("inference_count", 0))

    before = count()
    client.infer(MODEL, number(triton))
    assert count() == before + 1


def every_datatype(client: Any, triton: Any) -> None:
    for array, datatype in zip(ARRAYS, DATATYPES, strict=True):
        back = client.infer(MODEL, [tensor(triton, array, datatype)]).as_numpy("OUTPUT0")
        assert back.dtype == array.dtype, datatype
        assert back.tolist() == array.tolist(), datatype


def parameters(client: Any, triton: Any) -> None:
    client.infer(MODEL, number(triton), parameters={"unit": "m", "n": 3, "exact": True})


def request_id(client: Any, triton: Any) -> None:
    response = client.infer(MODEL, number(triton), request_id="abc").get_response()
    assert (response["id"] if triton is over_http else response.id) == "abc"


def class_count(client: Any, triton: Any) -> None:
    asked = [tensor(triton, np.array([[0.1, 0.7, 0.2]]), "FP64")]
    wanted = [triton.InferRequestedOutput("OUTPUT0", class_count=2)]
    found = client.infer(MODEL, asked, outputs=wanted).as_numpy("OUTPUT0")
    assert found.tolist() == [[b"0.7:1", b"0.2:2"]]


def compression(client: Any, triton: Any) -> None:
    asked = [tensor(triton, np.arange(4000.0), "FP64")]
    for algorithm in ("gzip", "deflate"):
        options = {"compression_algorithm": algorithm}
        if triton is over_http:
            options = {
                "request_compression_algorithm": algorithm,
                "response_compression_algorithm": algorithm,
            }
        back = client.infer(MODEL, asked, **options).as_numpy("OUTPUT0")
        assert back.tolist() == list(range(4000))


def a_timeout(client: Any, triton: Any) -> None:
    client.infer(MODEL, number(triton), timeout=30_000_000)
    assert "timeout" in refused(client.infer, MODEL, number(triton), timeout=-1)


def a_priority_is_refused(client: Any, triton: Any) -> None:
    assert "priority" in refused(client.infer, MODEL, number(triton), priority=1)


def a_sequence_is_refused(client: Any, triton: Any) -> None:
    message = refused(client.infer, MODEL, number(triton), sequence_id=1, sequence_start=True)
    assert "sequence" in message


def shared_memory_is_refused(client: Any, triton: Any) -> None:
    made = triton.InferInput("INPUT0", [1], "FP64")
    made.set_shared_memory("region", 8)
    assert "shared memory" in refused(client.infer, MODEL, [made])
    assert "shared memory" in refused(client.register_system_shared_memory, "r", "/r", 8)
    assert "shared memory" in refused(client.get_cuda_shared_memory_status)


def repository(client: Any, triton: Any) -> None:
    index = client.get_model_repository_index()
    names = [each["name"] for each in index] if triton is over_http else [
        each.name for each in index.models
    ]  # fmt: skip
    assert MODEL in names
    client.unload_model("simple_int8")
    client.load_model("simple_int8")
    assert client.is_model_ready("simple_int8")


def an_unknown_model(client: Any, triton: Any) -> None:
    assert "nobody" in refused(client.infer, "nobody", number(triton))


def an_asynchronous_request(client: Any, triton: Any) -> None:
    if triton is over_http:
        found = client.async_infer(MODEL, number(triton)).get_result()
    else:
        answers: queue.Queue[Any] = queue.Queue()
        client.async_infer(MODEL, number(triton), lambda result, error: answers.put(result))
        found = answers.get(timeout=30)
    assert found.as_numpy("OUTPUT0").tolist() == [1.5]


BOTH = [
    health, metadata, model_configuration, statistics, every_datatype, parameters, request_id,
    class_count, compression, a_timeout, a_priority_is_refused, a_sequence_is_refused,
    shared_memory_is_refused, repository, an_unknown_model, an_asynchronous_request,
]  # fmt: skip


def json_tensors(client: Any, triton: Any) -> None:
    for array, datatype in zip(ARRAYS[:6], DATATYPES[:6], strict=True):
        if datatype == "FP16":
            continue  # The client itself refuses it.
        made = triton.InferInput("INPUT0", list(array.shape), datatype)
        made.set_data_from_numpy(array, binary_data=False)
        wanted = [triton.InferRequestedOutput("OUTPUT0", binary_data=False)]
        back = client.infer(MODEL, [made], outputs=wanted).as_numpy("OUTPUT0")
        assert back.tolist() == array.tolist(), datatype


def a_stream(client: Any, triton: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer(MODEL, number(triton, 1.0), request_id="a")
    client.async_stream_infer("nobody", number(triton))
    client.async_stream_infer(MODEL, number(triton, 2.0), request_id="b")
    found = [answers.get(timeout=30) for _ in range(3)]
    client.stop_stream()
    assert found[0][0].as_numpy("OUTPUT0").tolist() == [1.0]
    assert found[0][0].get_response().parameters[FINAL].bool_param
    assert "nobody" in found[1][1].message()
    assert found[2][0].get_response().id == "b"


def a_stream_of_several_answers(client: Any, triton: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put(result))
    asked = [
        tensor(triton, np.array([7, 8], np.int32), "INT32", "IN"),
        tensor(triton, np.array([0, 0], np.uint32), "UINT32", "DELAY"),
        tensor(triton, np.array([0], np.uint32), "UINT32", "WAIT"),
    ]
    client.async_stream_infer("repeat_int32", asked, enable_empty_final_response=True)
    found = [answers.get(timeout=30) for _ in range(3)]
    client.stop_stream()
    assert [each.as_numpy("OUT").tolist() for each in found[:2]] == [[7], [8]]
    flags = [each.get_response().parameters[FINAL].bool_param for each in found]
    assert flags == [False, False, True]


async def health_and_inference(address: str, triton: Any) -> None:
    async with triton.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        assert await client.is_model_ready(MODEL)
        plain = over_grpc if triton is aio_grpc else over_http
        found = await client.infer(MODEL, number(plain), request_id="abc")
        assert found.as_numpy("OUTPUT0").tolist() == [1.5]


async def statistics_and_configuration(address: str, triton: Any) -> None:
    async with triton.InferenceServerClient(address) as client:
        assert await client.get_inference_statistics(MODEL)
        assert await client.get_model_config(MODEL)


async def an_asynchronous_stream(address: str, triton: Any) -> None:
    async def requests() -> Any:
        for value in (1.0, 2.0):
            yield {"model_name": MODEL, "inputs": number(over_grpc, value)}

    async with triton.InferenceServerClient(address) as client:
        found = [each async for each in client.stream_infer(requests())]
    assert [result.as_numpy("OUTPUT0").tolist() for result, _ in found] == [[1.0], [2.0]]


def main() -> None:
    http, grpc = sys.argv[1:]
    with over_http.InferenceServerClient(http, concurrency=4) as client:
        calls.run("HTTP", [*BOTH, json_tensors], client, over_http)
    with over_grpc.InferenceServerClient(grpc) as client:
        calls.run("gRPC", [*BOTH, a_stream, a_stream_of_several_answers], client, over_grpc)
    aio = [health_and_inference, statistics_and_configuration]
    calls.run("HTTP, asyncio", aio, http, aio_http)
    calls.run("gRPC, asyncio", [*aio, an_asynchronous_stream], grpc, aio_grpc)


if __name__ == "__main__":
    main()

"""Keys over gRPC: every method of both HTTP/2 cores, asked with every kind of key."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from headrace.dataplane import Calls
from headrace.grpc.grpc_listener import GrpcListener
from headrace.grpc.reflecting import SERVICE as REFLECTION
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.settings import ServerSettings
from support.api_keys import KEYS, PRESENTED, bearer, expected, write_keys
from support.custom import write_model
from support.serving import serving, until

pytestmark = pytest.mark.e2e

INFERENCE = "inference.GRPCInferenceService"
RPC_NEEDS = {
    **dict.fromkeys(("ServerLive", "ServerReady", "Check", "Watch"), ""),
    **dict.fromkeys(("ModelInfer", "ModelStreamInfer"), "infer"),
    **dict.fromkeys(
        ("ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig"), "read or infer"
    ),
    **dict.fromkeys(("ModelStatistics", "RepositoryIndex", "ServerReflectionInfo"), "read"),
    **dict.fromkeys(("RepositoryModelLoad", "RepositoryModelUnload"), "admin"),
    **dict.fromkeys(
        (
            f"{kind}SharedMemory{verb}"
            for kind in ("System", "Cuda")
            for verb in ("Status", "Register", "Unregister")
        ),
        "admin",
    ),
}


@pytest.fixture(scope="module", params=["--native-grpc", "--no-native-grpc"])
def rpcs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("models")
    write_model(root, name="vault")
    write_model(root, name="other")
    keys = write_keys(root / "keys.json", **KEYS)
    with (
        serving(root, "--api-keys-file", keys, request.param) as running,
        grpc.insecure_channel(running.announced["grpc"]) as channel,
    ):
        yield channel


def paths() -> list[str]:
    """The path of every RPC that a server registers."""

    async def found() -> list[str]:
        listener = GrpcListener(None, Calls(), ServerSettings())  # type: ignore[arg-type]
        return sorted(listener._core._server.handlers)  # type: ignore[attr-defined]

    return asyncio.run(found())


def metadata(key: str | None) -> tuple[tuple[str, str], ...]:
    return tuple(bearer(key).items()) if key else ()


def rpc(channel: grpc.Channel, method: str) -> Any:
    return channel.unary_unary(f"/{INFERENCE}/{method}")


def status_of(channel: grpc.Channel, path: str, key: str | None) -> grpc.StatusCode:
    """How a call with one empty message begins to be answered."""
    multi = channel.stream_stream(path)
    call = multi(iter([b""]), metadata=metadata(key), timeout=60)
    try:
        for _ in call:
            call.cancel()
            return grpc.StatusCode.OK
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_every_rpc_has_a_decision() -> None:
    assert {path.rpartition("/")[2] for path in paths()} == set(RPC_NEEDS)


@pytest.mark.parametrize("key", PRESENTED)
def test_every_rpc_lets_the_right_keys_pass_and_no_others(rpcs: grpc.Channel, key: str) -> None:
    codes = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED}
    wrong = {}
    for path in paths():
        method = path.rpartition("/")[2]
        whole = "SharedMemory" in method
        wanted = expected(key, RPC_NEEDS[method], whole)
        code = status_of(rpcs, path, key)
        if (code if code in codes.values() else None) != (codes[wanted] if wanted else None):
            wrong[path] = code
    assert wrong == {}


def test_a_key_for_some_models_reaches_those_alone_over_grpc(rpcs: grpc.Channel) -> None:
    def code(method: str, message: Any) -> grpc.StatusCode:
        try:
            call = rpc(rpcs, method)
            call(message.SerializeToString(), metadata=metadata("restricted"), timeout=60)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1])
    tensor.contents.fp64_contents.append(1.0)
    index = pb.RepositoryIndexResponse.FromString(
        rpc(rpcs, "RepositoryIndex")(b"", metadata=metadata("restricted"), timeout=60)
    )
    for name in ("vault", "absent"):
        request = pb.ModelInferRequest(model_name=name, inputs=[tensor])
        assert code("ModelInfer", request) is grpc.StatusCode.NOT_FOUND
        for kind in ("Ready", "Metadata", "Statistics", "Config"):
            message = getattr(pb, f"Model{kind}Request")(name=name)
            assert code(f"Model{kind}", message) is grpc.StatusCode.NOT_FOUND
        for kind in ("Load", "Unload"):
            message = getattr(pb, f"RepositoryModel{kind}Request")(model_name=name)
            assert code(f"RepositoryModel{kind}", message) is grpc.StatusCode.NOT_FOUND
    assert code("ModelInfer", pb.ModelInferRequest(model_name="other", inputs=[tensor])) is (
        grpc.StatusCode.OK
    )
    assert [model.name for model in index.models] == ["other"]


def test_a_stream_of_a_stranger_is_refused_before_its_first_message(rpcs: grpc.Channel) -> None:
    silent = threading.Event()

    def messages() -> Iterator[bytes]:
        silent.wait(60)
        yield from ()

    for service, method in ((INFERENCE, "ModelStreamInfer"), (REFLECTION, "ServerReflectionInfo")):
        call = rpcs.stream_stream(f"/{service}/{method}")(messages(), timeout=60)
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    silent.set()


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
@pytest.mark.parametrize("order", [("infer", "wrong"), ("wrong", "infer"), ("infer", "infer")])
def test_two_keys_are_none(rpcs: grpc.Channel, name: str, order: tuple[str, str]) -> None:
    kind = "Bearer " if name == "authorization" else ""
    given = tuple((name, f"{kind}hr_{key}") for key in order)
    with pytest.raises(grpc.RpcError) as refused:
        rpc(rpcs, "ModelMetadata")(b"", metadata=given, timeout=60)

    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_each_message_of_a_stream_of_reflection_needs_a_key_that_is_in_force(
    tmp_path: Path,
) -> None:
    keys = write_keys(tmp_path / "keys.json", **KEYS)
    write_model(tmp_path / "models", name="m")
    listing = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    sent: queue.Queue[bytes | None] = queue.Queue()
    with (
        serving(tmp_path / "models", "--api-keys-file", keys) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        call = channel.stream_stream(f"/{REFLECTION}/ServerReflectionInfo")(
            iter(sent.get, None), metadata=metadata("read"), timeout=60
        )
        sent.put(listing)
        assert next(call)
        write_keys(keys, infer=KEYS["infer"])
        until(lambda: "1 API keys are in force" in server.log(), 60, "the file is read again")
        sent.put(listing)
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
        sent.put(None)

    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_each_message_of_a_stream_is_for_a_model_of_the_key(rpcs: grpc.Channel) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1])
    tensor.contents.fp64_contents.append(1.0)
    sent = [pb.ModelInferRequest(model_name=name, inputs=[tensor]) for name in ("other", "vault")]
    call = rpcs.stream_stream(f"/{INFERENCE}/ModelStreamInfer")(
        iter([each.SerializeToString() for each in sent]),
        metadata=metadata("restricted"),
        timeout=60,
    )

    assert next(call)
    with pytest.raises(grpc.RpcError) as refused:
        next(call)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND

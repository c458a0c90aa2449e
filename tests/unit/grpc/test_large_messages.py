"""Large messages do not hold up the event loop."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.errors import InvalidInput, TooLarge
from headrace.grpc.calls import LARGEST_OTHER, CallRunner, RpcCall
from headrace.grpc.servicer import LARGE, MANY, InferenceService
from headrace.protocol.messages import InferenceResponse, ModelMetadata
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.packed_numbers import NO_NUMBERS
from headrace.protocol.tensor import Tensor


class Watched:
    """A message that knows the thread which read its inputs."""

    model_name, model_version = "m", ""
    read_by = 0

    @property
    def inputs(self) -> list[Any]:
        self.read_by = threading.get_ident()
        raise InvalidInput("read")


class WatchedOutputs(list[Tensor]):
    """Outputs that know the thread which went through them last."""

    read_by = 0

    def __iter__(self) -> Any:
        self.read_by = threading.get_ident()
        return super().__iter__()


class FakePlane:
    """One model, which answers everything with the same outputs."""

    def __init__(self, outputs: list[Tensor]) -> None:
        self._outputs = outputs

    def find_named(self, name: str, version: str | None, call: Any) -> Any:
        return SimpleNamespace(
            name="m",
            version=None,
            model_metadata=ModelMetadata(),
            signature=None,
            cloud_events=None,
        )

    async def submit(self, *_: Any) -> InferenceResponse:
        return InferenceResponse(self._outputs)


def _infer(message: Any, received: int, outputs: list[Tensor] | None = None) -> None:
    plane = cast(Any, FakePlane(outputs or []))
    service = InferenceService(plane, plane, cast(Any, None))
    call = RpcCall("grpc", "ModelInfer", "1")
    call.received = received
    rpc = SimpleNamespace(
        numbers=NO_NUMBERS, call=call, request_id="1", timeout=lambda: None, context=None
    )
    asyncio.run(cast(Any, service.model_infer(message, cast(Any, rpc))))


@pytest.mark.parametrize(("received", "is_large"), [(LARGE - 1, False), (LARGE, True)])
def test_a_large_request_is_decoded_off_the_event_loop(received: int, is_large: bool) -> None:
    message = Watched()
    with pytest.raises(InvalidInput, match="read"):
        _infer(message, received)

    assert (message.read_by != threading.get_ident()) is is_large


@pytest.mark.parametrize(
    ("count", "width", "is_large"),
    [(1, 1, False), (1, LARGE // 8, True), (MANY, 1, True)],
    ids=["one", "one of many elements", "many"],
)
def test_a_large_answer_is_encoded_off_the_event_loop(
    count: int, width: int, is_large: bool
) -> None:
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP64", shape=[1]).contents.fp64_contents.append(1)
    outputs = WatchedOutputs(
        Tensor(f"y{number}", "FP64", [width], bytes(width * 8)) for number in range(count)
    )
    _infer(message, 100, outputs)

    assert (outputs.read_by != threading.get_ident()) is is_large


@pytest.mark.parametrize(
    "kind", [pb.RepositoryModelLoadRequest, pb.ModelMetadataRequest, pb.ServerLiveRequest]
)
def test_a_large_message_that_infers_nothing_is_not_parsed(kind: Any) -> None:
    runner = CallRunner(cast(Any, None))
    body = b"\xff" * (LARGEST_OTHER + 1)
    with pytest.raises(InvalidInput):
        asyncio.run(runner.parse(kind, body[:-1], cast(Any, None)))
    with pytest.raises(TooLarge, match=f"{kind.DESCRIPTOR.name} message has {len(body)} bytes"):
        asyncio.run(runner.parse(kind, body, cast(Any, None)))

"""The methods of `inference.GRPCInferenceService`: decode, ask the data plane, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple

import grpc

from headrace.access.needs import ADMIN, ADMIN_ALL, DESCRIBE, INFER, OPEN, READ, Needs
from headrace.dataplane import VERSION_HEADER, Calls, CanaryCall, DataPlane
from headrace.errors import InvalidInput, Unimplemented
from headrace.grpc import call_metadata
from headrace.grpc.calls import CallRunner, Method, Rpc, parse
from headrace.grpc.direct_handler import DirectHandler
from headrace.grpc.stream_forms import BARE, StreamForm, form_of
from headrace.protocol import large_buffers
from headrace.protocol.batch_answer import Part
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference import GRPC_SERVICE
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.classification import classify
from headrace.protocol.open_inference.counts import COUNTS, Counts
from headrace.protocol.open_inference.grpc_large import Written
from headrace.protocol.open_inference.grpc_messages import (
    GrpcRequest,
    decode_request,
    encode_response,
)
from headrace.protocol.open_inference.grpc_parameters import write_parameters
from headrace.protocol.open_inference.known_messages import KnownAnswers, KnownRequests
from headrace.protocol.open_inference.mlserver_answers import as_of_mlserver
from headrace.protocol.open_inference.packed_numbers import PackedNumbers
from headrace.protocol.open_inference.triton_parameters import NO_SHARED_MEMORY, take_options
from headrace.serving.served_model import ServedModel

SHARED_MEMORY_METHODS = [
    f"{kind}SharedMemory{verb}"
    for kind in ("System", "Cuda")
    for verb in ("Status", "Register", "Unregister")
]
# Messages from this many bytes on, and answers of this many outputs, are not decoded and encoded on
# the event loop.
LARGE = 256 * 1024
MANY = 1000
SERVICE = GRPC_SERVICE
# MLServer has these methods in a service of its own, and its messages have the same fields.
MLSERVER_REPOSITORY = "inference.model_repository.ModelRepositoryService"
REPOSITORY_METHODS = ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload")


class Decoded(NamedTuple):
    """A decoded message with the model it is for, and what its answers need."""

    model: ServedModel
    message: GrpcRequest
    id: str
    timeout: float | None


class InferenceService:
    """One method per RPC; `handlers` is what a server registers.

    Handlers take and return bytes: the runner parses messages, so that a malformed one is refused
    like any other bad input.
    """

    def __init__(
        self, dataplane: DataPlane, calls: Calls, runner: CallRunner, counts: Counts = COUNTS
    ) -> None:
        self._counts = counts
        self._dataplane = dataplane
        self._calls = calls
        self._runner = runner
        self._known_requests = KnownRequests()
        self._known_answers = KnownAnswers()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """The method handlers by name, for either core."""
        unary: dict[str, tuple[Needs, Any, Method]] = {
            "ServerLive": (OPEN, pb.ServerLiveRequest, self.server_live),
            "ServerReady": (OPEN, pb.ServerReadyRequest, self.server_ready),
            "ModelReady": (DESCRIBE, pb.ModelReadyRequest, self.model_ready),
            "ServerMetadata": (DESCRIBE, pb.ServerMetadataRequest, self.server_metadata),
            "ModelMetadata": (DESCRIBE, pb.ModelMetadataRequest, self.model_metadata),
            "ModelStatistics": (READ, pb.ModelStatisticsRequest, self.model_statistics),
            "ModelConfig": (DESCRIBE, pb.ModelConfigRequest, self.model_config),
            "RepositoryIndex": (READ, pb.RepositoryIndexRequest, self.repository_index),
            "RepositoryModelLoad": (
                *(ADMIN, pb.RepositoryModelLoadRequest),
                self.repository_model_load,
            ),
            "RepositoryModelUnload": (
                *(ADMIN, pb.RepositoryModelUnloadRequest),
                self.repository_model_unload,
            ),
        }
        # Whatever their messages are, they are not read.
        shared_memory = (ADMIN_ALL, pb.ServerLiveRequest, self.shared_memory)
        unary |= dict.fromkeys(SHARED_MEMORY_METHODS, shared_memory)
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._runner.unary(name, *method))
            for name, method in unary.items()
        }
        infer = self._runner.unary("ModelInfer", INFER, pb.ModelInferRequest, self.model_infer)
        direct = self._runner.direct("ModelInfer", INFER, self)
        handlers["ModelInfer"] = DirectHandler(infer, direct)
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._runner.stream(
                *("ModelStreamInfer", INFER, pb.ModelInferRequest),
                self.model_stream_infer,
                form_of,
            )
        )
        return handlers

    async def server_live(self, message: Any, rpc: Rpc) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, message: Any, rpc: Rpc) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._dataplane.is_ready())

    async def model_ready(self, message: Any, rpc: Rpc) -> pb.ModelReadyResponse:
        ready = self._dataplane.seen_by(rpc.call).model_ready(message.name, message.version or None)
        return pb.ModelReadyResponse(ready=ready)

    async def server_metadata(self, message: Any, rpc: Rpc) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**self._dataplane.server_metadata())

    async def model_metadata(self, message: Any, rpc: Rpc) -> pb.ModelMetadataResponse:
        metadata = self._dataplane.seen_by(rpc.call).model_metadata(
            message.name, message.version or None
        )
        answer = pb.ModelMetadataResponse(
            name=metadata["name"], versions=metadata["versions"], platform=metadata["platform"]
        )
        write_parameters(metadata.get("parameters"), answer.parameters)
        for key, tensors in (("inputs", answer.inputs), ("outputs", answer.outputs)):
            for tensor in metadata[key]:
                added = tensors.add(
                    name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"]
                )
                write_parameters(tensor.get("parameters"), added.parameters)
        return answer

    async def model_infer(self, message: Any, rpc: Rpc) -> pb.ModelInferResponse | Written:
        """Answer one request."""
        return await self._answer_from(message, rpc, self._find(message, rpc))

    async def _answer_from(
        self, message: Any, rpc: Rpc, model: ServedModel
    ) -> pb.ModelInferResponse | Written:
        if rpc.call.for_canary:
            answer = await self._canary_call(message, rpc).answer(partial(self._answer, rpc))
        else:
            answer = await self._answer(rpc, await self._decode(message, rpc, model))
        if rpc.call.traffic is not None:
            await rpc.context.send_initial_metadata(_version(rpc))
        return answer

    def begin(self, body: bytes, rpc: Rpc) -> asyncio.Future[Any]:
        """Begin to answer one request, as `DirectMethod` says. Hot."""
        found = self._known_requests.find(body)
        if found is not None:
            known, id = found
            model = self._dataplane.find_named(
                known.model_name, known.model_version or None, rpc.call
            )
            rpc.call.model = model
            if rpc.call.for_canary:
                return self._in_task(parse(pb.ModelInferRequest, body), rpc, model)
            decoded = GrpcRequest(known.request(body, rpc.request_id), raw=True)
            rpc.decoded = self._prepare(decoded, id or rpc.request_id, rpc, model)
        elif len(body) >= LARGE:
            return asyncio.ensure_future(self._answer_large(body, rpc))
        else:
            message = parse(pb.ModelInferRequest, body)
            model = self._find(message, rpc)
            if rpc.call.for_canary:
                return self._in_task(message, rpc, model)
            decoded = decode_request(message, self._counts)
            if decoded.raw:
                self._known_requests.remember(body, message, decoded.request)
            rpc.decoded = self._with_options(decoded, rpc, model)
        request, timeout = rpc.decoded.message.request, rpc.decoded.timeout
        return self._calls.submit(rpc.call, model, request, timeout)

    def end(self, rpc: Rpc, response: InferenceResponse) -> bytes | Coroutine[Any, Any, bytes]:
        """The answer to what was begun, as `DirectMethod` says. Hot."""
        if rpc.decoded.message.classes or _is_large(response):
            return self._end_in_task(rpc, response)
        answer = self._written(rpc, rpc.decoded, response)
        if rpc.call.traffic is not None:
            rpc.context.begin(_version(rpc))
        return answer

    def _written(self, rpc: Rpc, decoded: Decoded, response: InferenceResponse) -> bytes:
        model = decoded.model
        response = _as_its_model(decoded, _send_headers(decoded, rpc, response))
        written = None
        if decoded.message.raw:
            written = self._known_answers.write(response, model.name, model.version, decoded.id)
        if written is None:
            written = _message(decoded, response).SerializeToString()
        return written

    async def _end_in_task(self, rpc: Rpc, response: InferenceResponse) -> bytes:
        answer = await _encode(rpc.decoded, rpc, response)
        if rpc.call.traffic is not None:
            rpc.context.begin(_version(rpc))
        encoded: bytes = answer.SerializeToString()
        return encoded

    async def _answer_large(self, body: bytes, rpc: Rpc) -> bytes:
        message = await self._runner.parse(pb.ModelInferRequest, body, rpc)
        # The message has all of it.
        del body
        return await self._in_task(message, rpc, self._find(message, rpc))

    def _in_task(self, message: Any, rpc: Rpc, model: ServedModel) -> asyncio.Future[bytes]:
        async def answer() -> bytes:
            encoded: bytes = (await self._answer_from(message, rpc, model)).SerializeToString()
            return encoded

        return asyncio.ensure_future(answer())

    async def model_stream_infer(self, message: Any, rpc: Rpc) -> AsyncGenerator[Any, None]:
        """The answers to one request of a stream; just one if its model does not stream."""
        model = self._find(message, rpc)
        if rpc.call.for_canary:
            answers = self._canary_call(message, rpc).stream(partial(self._answers, message, rpc))
        else:
            answers = self._answers(message, rpc, await self._decode(message, rpc, model))
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def _answers(self, message: Any, rpc: Rpc, decoded: Decoded) -> AsyncGenerator[Any, None]:
        form = rpc.form or BARE
        if not decoded.model.model_metadata.streams:
            yield await _formed(form, await self._answer(rpc, decoded), is_last=True)
            return
        rpc.answer_as_they_come()
        async with aclosing(self._pieces(decoded, rpc)) as pieces:
            async for piece in pieces:
                yield await _formed(form, await _encode(decoded, rpc, piece), is_last=False)
        if (last := form.after(message)) is not None:
            yield last

    async def model_statistics(self, message: Any, rpc: Rpc) -> pb.ModelStatisticsResponse:
        found = self._dataplane.seen_by(rpc.call).statistics(
            message.name or None, message.version or None
        )
        return pb.ModelStatisticsResponse(**found)

    async def model_config(self, message: Any, rpc: Rpc) -> pb.ModelConfigResponse:
        config = self._dataplane.seen_by(rpc.call).triton_config(
            message.name, message.version or None
        )
        return pb.ModelConfigResponse(config=pb.ModelConfig(**config))

    async def repository_index(self, message: Any, rpc: Rpc) -> pb.RepositoryIndexResponse:
        rows = self._dataplane.seen_by(rpc.call).index(message.ready)
        return pb.RepositoryIndexResponse(
            models=[pb.RepositoryIndexResponse.ModelIndex(**row) for row in rows]
        )

    async def repository_model_load(self, message: Any, rpc: Rpc) -> pb.RepositoryModelLoadResponse:
        name = _model_name(message)
        await self._dataplane.seen_by(rpc.call).load(name, message.parameters)
        return pb.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def repository_model_unload(
        self, message: Any, rpc: Rpc
    ) -> pb.RepositoryModelUnloadResponse:
        name = _model_name(message)
        await self._dataplane.seen_by(rpc.call).unload(name)
        return pb.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    async def shared_memory(self, message: Any, rpc: Rpc) -> Any:
        raise Unimplemented(NO_SHARED_MEMORY)

    def _find(self, message: Any, rpc: Rpc) -> ServedModel:
        """Find the model, before decoding: a request that cannot be decoded is its failure."""
        rpc.call.message = message
        version = message.model_version or None
        model = self._dataplane.find_named(message.model_name, version, rpc.call)
        rpc.call.model = model
        return model

    async def _decode(self, message: Any, rpc: Rpc, model: ServedModel) -> Decoded:
        if rpc.call.received >= LARGE:
            decoded = await asyncio.to_thread(_decode_large, message, self._counts, rpc.numbers)
        else:
            decoded = decode_request(message, self._counts)
        return self._with_options(decoded, rpc, model)

    def _with_options(self, decoded: GrpcRequest, rpc: Rpc, model: ServedModel) -> Decoded:
        if decoded.request.parameters:
            take_options(decoded.request, model.signature.param_names if model.signature else ())
        return self._prepare(decoded, decoded.request.id or rpc.request_id, rpc, model)

    def _prepare(self, decoded: GrpcRequest, id: str, rpc: Rpc, model: ServedModel) -> Decoded:
        # A failure is logged by this process and by the worker, both under the request's id.
        decoded.request.id = rpc.request_id
        decoded.request.received = rpc.call.received
        if model.model_metadata.takes_headers:
            decoded.request.context = call_metadata.request_context(
                rpc.context, rpc.call.credentials
            )
            if model.cloud_events is not None:
                decoded.request.context["headers"].update(model.cloud_events.of_request(id))
        return Decoded(model, decoded, id, rpc.timeout())

    def _canary_call(self, message: Any, rpc: Rpc) -> CanaryCall[Decoded]:
        """A call that is given to a canary."""

        async def prepare(model: ServedModel, waited: float) -> Decoded:
            decoded = await self._decode(message, rpc, model)
            if waited and decoded.timeout is None:
                return decoded._replace(timeout=max(model.infer_timeout - waited, 0.0))
            return decoded

        return CanaryCall(self._calls, rpc.call, prepare)

    async def _answer(self, rpc: Rpc, decoded: Decoded) -> pb.ModelInferResponse | Written:
        return await _encode(decoded, rpc, await self._infer(decoded, rpc))

    async def _infer(self, decoded: Decoded, rpc: Rpc) -> InferenceResponse:
        # A caller who leaves cancels this task, and with it the future that it awaits.
        request = decoded.message.request
        if rpc.call.for_canary:
            return await decoded.model.submit(request, decoded.timeout, rpc.call.timing)
        return await self._calls.submit(rpc.call, decoded.model, request, decoded.timeout)

    def _pieces(self, decoded: Decoded, rpc: Rpc) -> AsyncGenerator[InferenceResponse, None]:
        request = decoded.message.request
        if rpc.call.for_canary:
            return decoded.model.stream(request, decoded.timeout)
        return self._calls.stream(rpc.call, decoded.model, request, decoded.timeout)


def _decode_large(
    message: Any, counts: Counts, numbers: Mapping[int, PackedNumbers]
) -> GrpcRequest:
    decoded = decode_request(message, counts, numbers)
    large_buffers.move(decoded.request.inputs)
    return decoded


def _send_headers(decoded: Decoded, rpc: Rpc, response: InferenceResponse) -> InferenceResponse:
    """Send the headers of an answer as trailing metadata: the model's, and CloudEvents'."""
    model = decoded.model
    fields: list[tuple[str, str]] = []
    if model.model_metadata.takes_headers:
        response, fields = call_metadata.taken(response, model.name)
    if model.cloud_events is not None:
        added = model.cloud_events.metadata(decoded.id)
        own = {name for name, _ in added}
        fields = [*added, *(each for each in fields if each[0] not in own)]
    if fields:
        rpc.context.set_trailing_metadata((("x-request-id", rpc.request_id), *fields))
    return response


async def _encode(
    decoded: Decoded, rpc: Rpc, response: InferenceResponse
) -> pb.ModelInferResponse | Written:
    response = _send_headers(decoded, rpc, response)
    if decoded.message.classes:
        metadata = decoded.model.model_metadata
        # Not on the event loop, because sorting a large output takes its time.
        response = await asyncio.to_thread(classify, response, decoded.message.classes, metadata)
    message = partial(_message, decoded, _as_its_model(decoded, response))
    return await asyncio.to_thread(message) if _is_large(response) else message()


async def _formed(form: StreamForm, answer: pb.ModelInferResponse | Written, is_last: bool) -> Any:
    """The message of a stream that carries an answer."""
    if isinstance(answer, Written):
        return await asyncio.to_thread(form.answer, answer, is_last)
    return form.answer(answer, is_last)


def _as_its_model(decoded: Decoded, response: InferenceResponse) -> InferenceResponse:
    """The answer as callers of this model expect it."""
    metadata = decoded.model.model_metadata
    return as_of_mlserver(response, metadata.content_typed) if metadata.of_mlserver else response


def _message(decoded: Decoded, response: InferenceResponse) -> pb.ModelInferResponse | Written:
    model = decoded.model
    return encode_response(
        response,
        model_name=model.name,
        model_version=model.version,
        id=decoded.id,
        raw=decoded.message.raw,
    )


def _version(rpc: Rpc) -> tuple[tuple[str, str], ...]:
    """What the caller of a followed model hears first: the version that has answered."""
    assert rpc.call.model is not None, "it has answered"
    return ((VERSION_HEADER, rpc.call.model.version or ""),)


def _is_large(response: InferenceResponse) -> bool:
    # The outputs of a part are cut out when they are looked at.
    whole = response.answer.response if type(response) is Part else response
    return response.nbytes >= LARGE or len(whole.outputs) >= MANY


def _model_name(message: Any) -> str:
    """The model to load or unload; KServe's client sends it as the name of the repository."""
    name: str = message.model_name or message.repository_name
    if not name:
        raise InvalidInput("model_name is missing")
    return name

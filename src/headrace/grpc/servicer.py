"""The methods of `inference.GRPCInferenceService`: decode, ask the data plane, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple
from weakref import WeakSet

import grpc

from headrace.dataplane import DataPlane
from headrace.errors import InvalidInput, Unimplemented
from headrace.grpc import model_headers
from headrace.grpc.calls import CallRunner, Rpc
from headrace.protocol import inference_pb2 as pb
from headrace.protocol.grpc_messages import GrpcRequest, decode_request, encode_response
from headrace.protocol.grpc_parameters import write_parameters
from headrace.protocol.messages import InferenceResponse

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


class Question(NamedTuple):
    """A decoded request with the model it is for, and all that its answers need."""

    model: Any
    decoded: GrpcRequest
    id: str
    timeout: float | None


class InferenceService:
    """One method per RPC; `handlers` is what a server registers.

    Messages come and go as bytes: they are parsed here, so that a malformed one is refused like
    any other bad input.
    """

    def __init__(self, dataplane: DataPlane, runner: CallRunner) -> None:
        self._dataplane = dataplane
        self._runner = runner
        # Loaded models that turned out not to stream, so that they are tried once only.
        self._unstreamed: WeakSet[Any] = WeakSet()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """The method handlers by name, for either core."""
        unary = {
            "ServerLive": (pb.ServerLiveRequest, self.server_live),
            "ServerReady": (pb.ServerReadyRequest, self.server_ready),
            "ModelReady": (pb.ModelReadyRequest, self.model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self.server_metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self.model_metadata),
            "ModelInfer": (pb.ModelInferRequest, self.model_infer),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self.repository_index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self.repository_model_load),
            "RepositoryModelUnload": (
                pb.RepositoryModelUnloadRequest,
                self.repository_model_unload,
            ),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._runner.unary(*method))
            for name, method in unary.items()
        }
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._runner.stream(pb.ModelInferRequest, self.model_stream_infer)
        )
        return handlers

    async def server_live(self, message: Any, rpc: Rpc) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, message: Any, rpc: Rpc) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._dataplane.is_ready())

    async def model_ready(self, message: Any, rpc: Rpc) -> pb.ModelReadyResponse:
        ready = self._dataplane.model_ready(message.name, message.version or None)
        return pb.ModelReadyResponse(ready=ready)

    async def server_metadata(self, message: Any, rpc: Rpc) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**self._dataplane.server_metadata())

    async def model_metadata(self, message: Any, rpc: Rpc) -> pb.ModelMetadataResponse:
        metadata = self._dataplane.model_metadata(message.name, message.version or None)
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

    async def model_infer(self, message: Any, rpc: Rpc) -> pb.ModelInferResponse:
        """Answer one request. Hot."""
        question = self._decode(message, rpc)
        return _encode(question, _send_headers(question, rpc, await self._infer(question)))

    async def model_stream_infer(
        self, message: Any, rpc: Rpc
    ) -> AsyncGenerator[pb.ModelInferResponse, None]:
        """The answers to one request of a stream; one, when its model does not stream."""
        question = self._decode(message, rpc)
        model = question.model
        started = False
        try:
            if model not in self._unstreamed:
                async with aclosing(self._stream(question)) as pieces:
                    async for piece in pieces:
                        started = True
                        yield _encode(question, piece)
                return
        except Unimplemented:
            if started:
                raise
            self._unstreamed.add(model)
        yield _encode(question, _send_headers(question, rpc, await self._infer(question)))

    async def repository_index(self, message: Any, rpc: Rpc) -> pb.RepositoryIndexResponse:
        rows = self._dataplane.index(message.ready)
        return pb.RepositoryIndexResponse(
            models=[pb.RepositoryIndexResponse.ModelIndex(**row) for row in rows]
        )

    async def repository_model_load(self, message: Any, rpc: Rpc) -> pb.RepositoryModelLoadResponse:
        name = _model_name(message)
        await self._dataplane.load(name, message.parameters)
        return pb.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def repository_model_unload(
        self, message: Any, rpc: Rpc
    ) -> pb.RepositoryModelUnloadResponse:
        name = _model_name(message)
        await self._dataplane.unload(name)
        return pb.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    def _decode(self, message: Any, rpc: Rpc) -> Question:
        model = self._dataplane.repository.get(message.model_name, message.model_version or None)
        decoded = decode_request(message)
        id = decoded.request.id or rpc.request_id
        # A failure is logged by this process and by the worker, both under the request's id.
        decoded.request.id = rpc.request_id
        if model.model_metadata.takes_headers:
            decoded.request.origin = model_headers.origin(rpc.context)
        return Question(model, decoded, id, rpc.timeout())

    def _stream(self, question: Question) -> AsyncGenerator[InferenceResponse, None]:
        return self._dataplane.stream(question.model, question.decoded.request, question.timeout)

    async def _infer(self, question: Question) -> InferenceResponse:
        call = self._dataplane.start(question.model, question.decoded.request, question.timeout)
        try:
            await asyncio.wait([call.future])
        finally:
            # Cancelled here, the caller has left; on a future that is done this does nothing.
            call.future.cancel()
        return self._dataplane.finish(call)


def _send_headers(question: Question, rpc: Rpc, response: InferenceResponse) -> InferenceResponse:
    """Send the headers that a model puts into its answer as trailing metadata."""
    if not question.model.model_metadata.takes_headers:
        return response
    response, fields = model_headers.taken(response, question.model.name)
    if fields:
        rpc.context.set_trailing_metadata((("x-request-id", rpc.request_id), *fields))
    return response


def _encode(question: Question, response: InferenceResponse) -> pb.ModelInferResponse:
    return encode_response(
        response,
        model_name=question.model.name,
        model_version=question.model.version,
        id=question.id,
        raw=question.decoded.raw,
    )


def _model_name(message: Any) -> str:
    """The model to load or unload; KServe's client sends it where others send a repository."""
    name: str = message.model_name or message.repository_name
    if not name:
        raise InvalidInput("model_name is missing")
    return name

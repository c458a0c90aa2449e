"""The methods of `inference.GRPCInferenceService`: decode, ask the data plane, encode."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

import grpc

from headrace.dataplane import Calls, DataPlane
from headrace.errors import InvalidInput
from headrace.grpc import call_metadata
from headrace.grpc.calls import CallRunner, Rpc
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.grpc_messages import (
    GrpcRequest,
    decode_request,
    encode_response,
)
from headrace.protocol.open_inference.grpc_parameters import write_parameters

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


class Decoded(NamedTuple):
    """A decoded message with the model it is for, and what its answers need."""

    model: Any
    message: GrpcRequest
    id: str
    timeout: float | None


class InferenceService:
    """One method per RPC; `handlers` is what a server registers.

    Handlers take and return bytes: the runner parses messages, so that a malformed one is refused
    like any other bad input.
    """

    def __init__(self, dataplane: DataPlane, calls: Calls, runner: CallRunner) -> None:
        self._dataplane = dataplane
        self._calls = calls
        self._runner = runner

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
            name: grpc.unary_unary_rpc_method_handler(self._runner.unary(name, *method))
            for name, method in unary.items()
        }
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._runner.stream("ModelStreamInfer", pb.ModelInferRequest, self.model_stream_infer)
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
        decoded = self._decode(message, rpc)
        return _encode(decoded, _send_headers(decoded, rpc, await self._infer(decoded, rpc)))

    async def model_stream_infer(
        self, message: Any, rpc: Rpc
    ) -> AsyncGenerator[pb.ModelInferResponse, None]:
        """The answers to one request of a stream; just one if its model does not stream."""
        decoded = self._decode(message, rpc)
        model, request = decoded.model, decoded.message.request
        if not model.model_metadata.streams:
            yield _encode(decoded, _send_headers(decoded, rpc, await self._infer(decoded, rpc)))
            return
        async with aclosing(
            self._calls.stream(rpc.call, model, request, decoded.timeout)
        ) as pieces:
            async for piece in pieces:
                yield _encode(decoded, _send_headers(decoded, rpc, piece))

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

    def _decode(self, message: Any, rpc: Rpc) -> Decoded:
        model = self._dataplane.get(message.model_name, message.model_version or None)
        rpc.call.model = model
        decoded = decode_request(message)
        id = decoded.request.id or rpc.request_id
        # A failure is logged by this process and by the worker, both under the request's id.
        decoded.request.id = rpc.request_id
        if model.model_metadata.takes_headers:
            decoded.request.context = call_metadata.request_context(rpc.context)
        return Decoded(model, decoded, id, rpc.timeout())

    async def _infer(self, decoded: Decoded, rpc: Rpc) -> InferenceResponse:
        # A caller who leaves cancels this task, and with it the future that it awaits.
        request = decoded.message.request
        return await self._calls.submit(rpc.call, decoded.model, request, decoded.timeout)


def _send_headers(decoded: Decoded, rpc: Rpc, response: InferenceResponse) -> InferenceResponse:
    """Send the headers that a model puts into its answer as trailing metadata."""
    if not decoded.model.model_metadata.takes_headers:
        return response
    response, fields = call_metadata.taken(response, decoded.model.name)
    if fields:
        rpc.context.set_trailing_metadata((("x-request-id", rpc.request_id), *fields))
    return response


def _encode(decoded: Decoded, response: InferenceResponse) -> pb.ModelInferResponse:
    return encode_response(
        response,
        model_name=decoded.model.name,
        model_version=decoded.model.version,
        id=decoded.id,
        raw=decoded.message.raw,
    )


def _model_name(message: Any) -> str:
    """The model to load or unload; KServe's client sends it as the name of the repository."""
    name: str = message.model_name or message.repository_name
    if not name:
        raise InvalidInput("model_name is missing")
    return name

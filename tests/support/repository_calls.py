"""Calls of the Open Inference Protocol over gRPC, as Seldon's agent makes them."""

from __future__ import annotations

from typing import Any

import grpc

from headrace.protocol.open_inference import inference_pb2 as pb


def called(channel: grpc.Channel, method: str, **fields: Any) -> Any:
    """The answer to one call, such as `RepositoryModelLoad`.

    Raises:
        grpc.RpcError: with the status of the call.
    """
    request = getattr(pb, f"{method}Request")(**fields)
    call = channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}",
        request.__class__.SerializeToString,
        getattr(pb, f"{method}Response").FromString,
    )
    return call(request, timeout=60)

"""The two forms that `ModelStreamInfer` has: the bare one of MLServer, and Triton's.

Both have the same name and take the same requests, but their answers are different messages, and
each client can read its own only. The form of a stream is that of its first request.

Source: Triton's "gRPC API", `ModelStreamInferResponse`, and its "Decoupled models".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from headrace.errors import HeadraceError, InvalidInput, shorten
from headrace.grpc.status_codes import details
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.grpc_large import Written, enclosed
from headrace.protocol.open_inference.tags import tag
from headrace.protocol.open_inference.triton_parameters import (
    EMPTY_FINAL,
    OPTIONS,
    SHARED_MEMORY,
)

# Of the metadata, for clients whose requests say nothing about them.
KEY = "x-stream-form"
# Of the metadata of Triton's: an error ends the stream with its status.
ENDS_ON_ERROR = "triton_grpc_error"
FINAL = "triton_final_response"
_INFER_RESPONSE = tag(pb.ModelStreamInferResponse, "infer_response")

Answer = pb.ModelInferResponse | Written


class StreamForm(Protocol):
    """How the answers and errors of one stream are sent."""

    # Whether the stream goes on after an error, which is then a message.
    survives_errors: bool

    def answer(self, answer: Answer, is_last: bool) -> Any:
        """The message that carries an answer; `is_last` if no other follows for its request."""

    def error(self, error: HeadraceError, request: pb.ModelInferRequest | None) -> Any:
        """The message that carries an error; the request is None if it could not be parsed."""

    def after(self, request: pb.ModelInferRequest) -> Any:
        """The message that follows the answers of a model that streams; None for nothing."""


class BareForm:
    """Answers as they are; an error ends the stream with its status."""

    survives_errors = False

    def answer(self, answer: Answer, is_last: bool) -> Any:
        return answer

    def error(self, error: HeadraceError, request: pb.ModelInferRequest | None) -> Any:
        raise error

    def after(self, request: pb.ModelInferRequest) -> Any:
        return None


class TritonForm:
    """Each answer or error in a message, with a parameter that says whether it is the last."""

    def __init__(self, survives_errors: bool = True) -> None:
        self.survives_errors = survives_errors

    def answer(self, answer: Answer, is_last: bool) -> Any:
        final = pb.ModelInferResponse() if isinstance(answer, Written) else answer
        final.parameters[FINAL].bool_param = is_last
        if isinstance(answer, Written):
            return enclosed(_INFER_RESPONSE, final.SerializeToString(), answer)
        return pb.ModelStreamInferResponse(infer_response=answer)

    def error(self, error: HeadraceError, request: pb.ModelInferRequest | None) -> Any:
        told = pb.ModelInferResponse(id=request.id if request is not None else "")
        told.parameters[FINAL].bool_param = True
        return pb.ModelStreamInferResponse(error_message=details(error), infer_response=told)

    def after(self, request: pb.ModelInferRequest) -> Any:
        if not request.parameters[EMPTY_FINAL].bool_param:
            return None
        last = pb.ModelInferResponse(
            id=request.id, model_name=request.model_name, model_version=request.model_version
        )
        return self.answer(last, is_last=True)


BARE = BareForm()


def form_of(metadata: Mapping[str, Any], first: pb.ModelInferRequest) -> StreamForm:
    """The form of a stream, from its metadata or else its first request.

    Clients of Triton send raw tensors, and parameters that others lack; those of MLServer send
    typed contents.

    Raises:
        InvalidInput: the metadata asks for a form that does not exist.
    """
    asked = metadata.get(KEY)
    if asked not in (None, "triton", "bare"):
        raise InvalidInput(f"metadata {KEY}: expected 'triton' or 'bare', got '{shorten(asked)}'")
    ends_on_error = metadata.get(ENDS_ON_ERROR) == "true"
    if asked == "triton" or (asked is None and (ends_on_error or _is_of_triton(first))):
        return TritonForm(survives_errors=not ends_on_error)
    return BARE


def _is_of_triton(request: pb.ModelInferRequest) -> bool:
    if request.raw_input_contents or not OPTIONS.isdisjoint(request.parameters):
        return True
    return any(name in tensor.parameters for tensor in request.inputs for name in SHARED_MEMORY)

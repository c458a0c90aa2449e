"""Inference requests, answers and metadata of models, independent of any wire format.

The names are those of the Open Inference Protocol: inputs, outputs, parameters, id.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from headrace.protocol.tensor import Parameters, Tensor
from headrace.protocol.value_forms import Form

# The parameter in a model's metadata that says it takes raw payloads, and of which media type.
PAYLOAD_TYPE = "request_content_type"
# The parameter that says what a model is made for, and its value for MLflow's ResponsesAgent.
TASK = "task"
RESPONSES_AGENT = "agent/v1/responses"


class InferenceRequest:
    """One inference request: input tensors, and which outputs to return.

    `parameters` reach the model; `outputs` names the requested outputs in order, and None stands
    for all. Transport options (binary answers, compression) never appear here. `context` says where
    the request came from, for models that ask for it: `{"headers": {name: value}}`, with
    `"bytes": True` if the protocol sends text as bytes, or the call of one of the model's routes.
    It has no influence on batches. `timeout` is how many seconds the caller waits, if a parameter
    says so. `received` is how many bytes the request had when it arrived, 0 if that is unknown.
    """

    __slots__ = ("context", "id", "inputs", "outputs", "parameters", "received", "timeout")

    def __init__(
        self,
        inputs: list[Tensor],
        parameters: Parameters | None = None,
        outputs: list[str] | None = None,
        id: str = "",
        context: dict[str, Any] | None = None,
    ) -> None:
        self.inputs = inputs
        self.parameters = parameters
        self.outputs = outputs
        self.id = id
        self.context = context
        self.timeout: float | None = None
        self.received = 0

    @property
    def content_type(self) -> str | None:
        return self.parameters.get("content_type") if self.parameters else None

    @property
    def nbytes(self) -> int:
        size = 0
        for tensor in self.inputs:
            size += len(tensor.data)
        return size


class InferenceResponse:
    """The answer to one request; the protocol adds the model's name and version, and the id.

    `parameters["content_type"]` says what Python value the tensors stand for (`np`, `pd`,
    `dict`, `str`, `json`), so that a protocol with another form of answer can rebuild it. `form`
    says what the content type does not, for runners: see `headrace.protocol.value_forms`.
    """

    __slots__ = ("form", "outputs", "parameters")

    def __init__(
        self, outputs: list[Tensor], parameters: Parameters | None = None, form: Form = None
    ) -> None:
        self.outputs = outputs
        self.parameters = parameters
        self.form = form

    @property
    def content_type(self) -> str | None:
        return self.parameters.get("content_type") if self.parameters else None

    def split_headers(self) -> tuple[InferenceResponse, dict[str, Any]]:
        """This response without `headers` among its parameters, and those headers."""
        parameters = self.parameters or {}
        found = parameters.get("headers")
        if not isinstance(found, dict):
            return self, {}
        # The responses of a batch share one dict of parameters, so it must stay as it is.
        rest = {key: value for key, value in parameters.items() if key != "headers"}
        return InferenceResponse(self.outputs, rest, self.form), found

    @property
    def nbytes(self) -> int:
        size = 0
        for tensor in self.outputs:
            size += tensor.nbytes
        return size


@dataclass(frozen=True)
class TensorMetadata:
    """Metadata of one input or output; a dimension of -1 is free."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelRoute:
    """An HTTP path and method that a model answers itself; `handler` is its name in the model.

    The path may have parts in braces, as in Starlette. `operation` is its OpenAPI operation, if
    the model knows more of it than the path, and `components` the schemas that it refers to.
    With `only_body`, its handler wants to know the body and its media type and nothing else. With
    `relays`, its answer comes in pieces, which are sent as they come. Unless it `is_listed`, the
    document does not show it.
    """

    path: str
    method: str
    handler: str
    summary: str = ""
    operation: dict[str, Any] | None = None
    components: dict[str, Any] = field(default_factory=dict)
    only_body: bool = False
    relays: bool = False
    is_listed: bool = True


@dataclass(frozen=True)
class ModelMetadata:
    """What a loaded model says about itself.

    `row_independent` is the promise that rows never influence each other, so that requests may
    be merged into one batch. `signature` is the MLflow signature as found in `MLmodel` (`inputs`,
    `outputs`, `params`), or None. `takes_headers` asks for the headers of each request, and for
    those in `parameters["headers"]` of an answer to be sent. `streams` means that answers can be
    streamed, and `decodes_scoring` that the model decodes MLflow's bodies itself; the code that
    loads the model fills in both. `concurrency` is how many requests each instance works on at
    once. `of_mlserver` asks for answers as MLServer's runtime gives them, and `content_typed` says
    that those have a content type of their own; the loader fills in both. `from_mlserver` is true
    of these models, and of those written against MLServer's API. A service `is_service`:
    it has endpoints, and no inference protocol is meant for it unless a request names it. `example`
    is a body of MLflow's scoring protocol that was logged with the model, for its documentation.
    """

    platform: str = ""
    inputs: list[TensorMetadata] = field(default_factory=list)
    outputs: list[TensorMetadata] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    row_independent: bool = False
    signature: dict[str, Any] | None = None
    takes_headers: bool = False
    streams: bool = False
    decodes_scoring: bool = False
    routes: list[ModelRoute] = field(default_factory=list)
    concurrency: int = 1
    is_service: bool = False
    of_mlserver: bool = False
    content_typed: bool = False
    from_mlserver: bool = False
    example: str = ""

    @property
    def payload_type(self) -> str | None:
        """The media type of the raw payloads a plugin takes; None for every other model."""
        return self.parameters.get(PAYLOAD_TYPE)

    @property
    def task(self) -> str | None:
        """What the model is made for, if it says so."""
        return self.parameters.get(TASK)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ModelMetadata:
        tensors = {
            key: [TensorMetadata(**tensor) for tensor in raw[key]] for key in ("inputs", "outputs")
        }
        routes = [ModelRoute(**route) for route in raw["routes"]]
        return cls(**{**raw, **tensors, "routes": routes})

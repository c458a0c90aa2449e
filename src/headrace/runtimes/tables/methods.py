"""Models served by their methods: `predict`, `predict_proba` and the like are the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from headrace.codecs import decode_request, encode_response
from headrace.codecs.array import tensor_of
from headrace.codecs.containers import exact_array
from headrace.errors import InvalidInput, InvalidModel, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.protocol.tensor import Tensor
from headrace.runtimes import refusal


class MethodsRuntime(Model):
    """Serve methods of `self._model`, each as an output of its name.

    A subclass loads the model and then calls `_offer`. The default method answers unless the
    request asks for others. The input is one array of shape [rows, features], or a table with
    one input per column, as which several inputs without a content type are also read.
    """

    row_independent = True
    _model: Any
    # How a lone input is read unless the request or the settings say otherwise.
    _content_type = "np"
    # Frameworks that take lists and Series themselves get what a runner was given.
    _decode = staticmethod(decode_request)

    def _offer(self, what: str, methods: Sequence[str]) -> None:
        """Set the methods that can be requested, and the default among them.

        Those in `extra["methods"]` are added to `methods`.

        Raises:
            InvalidModel: there is none, the model lacks one of `extra["methods"]`, or
                `extra["predict_fn"]` is not among them.
        """
        self._available = list(methods)
        for name in self.settings.extra.get("methods") or ():
            if name not in self._available and has_method(self._model, name):
                self._available.append(name)
            elif name not in self._available:
                raise InvalidModel(f"{what} has no method '{shorten(name)}'")
        chosen = self.settings.extra.get("predict_fn")
        self._default = chosen or ("predict" if "predict" in methods else "")
        if not chosen and methods and not self._default:
            self._default = self._available[-1]
        if self._default not in self._available:
            if not self._available:
                asked = f" '{shorten(chosen)}', nor another" if chosen else ""
                raise InvalidModel(f"{what} has no method{asked} that can be served")
            raise InvalidModel(
                f"{what} has no method '{shorten(self._default or 'predict')}'; "
                f"it has {listing(self._available)}"
            )

    def unload(self) -> None:
        self._model = None

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=declared(self.settings.inputs) or self._inputs(),
            outputs=declared(self.settings.outputs) or self._outputs(),
            parameters={"content_type": self.settings.content_type or self._content_type},
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer with the requested methods' results, each named after its method.

        Raises:
            InvalidInput: an output is unknown, the model was not trained on such columns, or its
                framework refuses the input.
        """
        wanted = request.outputs or [self._default]
        for name in wanted:
            if name not in self._available:
                raise InvalidInput(
                    f"output '{shorten(name)}' is not available, this model has "
                    f"{listing(self._available)}"
                )
        kind = content_type_of(request, self.settings.content_type, self._content_type)
        value = self._prepared(self._decode(request, kind))
        return encode_methods(
            {name: refusal.call(partial(self._call, name), value, self._model) for name in wanted}
        )

    def _inputs(self) -> list[TensorMetadata]:
        """What the model itself knows about its inputs."""
        raise NotImplementedError

    def _outputs(self) -> list[TensorMetadata]:
        """What the model itself knows about the outputs of its methods."""
        raise NotImplementedError

    def _prepared(self, value: Any) -> Any:
        """The array or table as the framework takes it.

        Raises:
            InvalidInput: the model was not trained on such a value.
        """
        raise NotImplementedError

    def _call(self, method: str, value: Any) -> Any:
        """The answer of one method."""
        raise NotImplementedError


def content_type_of(request: InferenceRequest, default: str | None, usual: str = "np") -> str:
    """The request's content type, or `default`; without either, inputs may be columns of a table.

    Several inputs are, and so is a lone one without further dimensions where tables are `usual`.
    """
    if kind := request.content_type or default:
        return kind
    if len(request.inputs) != 1:
        return "pd" if request.inputs else "np"
    shape = request.inputs[0].shape
    return usual if len(shape) < 2 or shape[1] == 1 else "np"


def has_method(model: Any, name: str) -> bool:
    """Whether the model can be asked for this method."""
    # Some estimators hide a method behind a property that raises.
    try:
        return callable(getattr(model, name, None))
    except Exception:
        return False


def check_features(value: Any, expected: int | None) -> None:
    """Check that a table or array has `expected` columns, if both are known.

    Raises:
        InvalidInput: the number differs; the message has both.
    """
    shape = getattr(value, "shape", None)
    if expected is None or shape is None:
        return
    if len(shape) < 2:
        raise InvalidInput(
            f"the model takes rows of {expected} features, shape [-1, {expected}], "
            f"got shape {list(shape)}"
        )
    if len(shape) == 2 and shape[1] != expected:
        raise InvalidInput(f"the model takes {expected} features, got {shape[1]}")


def encode_methods(answers: dict[str, Any]) -> InferenceResponse:
    """One output per method; a lone DataFrame becomes one output per column.

    A method that answers with a list of arrays, one per target, becomes outputs numbered
    from 1 after the method's name.
    """
    if len(answers) == 1:
        ((name, value),) = answers.items()
        if not isinstance(value, list):
            return encode_response(value, name)
    tensors: list[Tensor] = []
    for name, value in answers.items():
        if isinstance(value, list):
            tensors += [
                tensor_of(f"{name}-{number}", exact_array(item))
                for number, item in enumerate(value, 1)
            ]
        else:
            dense = value.toarray() if hasattr(value, "toarray") else exact_array(value)
            tensors.append(tensor_of(name, dense))
    form = "list" if len(answers) == 1 else None
    return InferenceResponse(tensors, {"content_type": "dict"}, form)

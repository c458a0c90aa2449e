"""ONNX graphs, run by ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, InvalidModel, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.casting import cast
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.protocol.tensor import Tensor
from headrace.runtimes import artefact, catalog
from headrace.runtimes.expected import described, type_of
from headrace.runtimes.tensors import onnx_session

FILES = ("model.onnx",)
PREDICT = "predict"
_ALIASES = catalog.named("onnx").mlserver_aliases
_DATATYPES = {
    "bool": "BOOL",
    **{f"{u}int{bits}": f"{u}int{bits}".upper() for u in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}


class OnnxRuntime(Model):
    """Serve an ONNX graph.

    Inputs are matched to the graph's by name, and converted if nothing is lost; the only input
    of a graph may have any name, or be sent as the columns of a table. The outputs are the
    graph's; `predict` is another name for the first.
    """

    platform = "onnx"

    def load(self) -> None:
        what = f"the ONNX model '{self.settings.name}'"
        artefact.require("onnxruntime", "onnx")
        path = artefact.locate(self.settings, FILES)
        self._session = onnx_session.open_session(path, self.settings.extra, what)
        self._run_options = onnx_session.run_options(self.settings.extra, what)
        self._inputs = [_input(node, what) for node in self._session.get_inputs()]
        outputs = [_output(node) for node in self._session.get_outputs()]
        self._outputs = [output for output in outputs if output is not None]
        if not self._outputs:
            raise InvalidModel(f"{what} has no output that can be sent")
        self._names = [output.name for output in self._outputs]
        self._axes = _axes(self._session)
        self.row_independent = rows_are_free(self._session)

    def unload(self) -> None:
        self._session = None

    def metadata(self) -> ModelMetadata:
        content_type = "np" if len(self._inputs) == 1 else "dict"
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=declared(self.settings.inputs) or self._inputs,
            outputs=declared(self.settings.outputs) or self._outputs,
            parameters={
                "content_type": self.settings.content_type or content_type,
                "device": onnx_session.device(self._session),
            },
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer with the requested outputs, or all.

        Raises:
            InvalidInput: an input or output is unknown or missing, or the graph does not take
                an input's datatype, shape or values.
        """
        wanted = request.outputs or self._default()
        names = [self._graph_name(name) for name in wanted]
        values = run(self._session, names, self._feed(request.inputs), self._run_options)
        tensors = [tensor_of(name, _array(value)) for name, value in zip(wanted, values)]
        return InferenceResponse(tensors, {"content_type": "np" if len(tensors) == 1 else "dict"})

    def _default(self) -> list[str]:
        # Users of MLServer's runtime know one output of this name.
        if self.settings.implementation in _ALIASES:
            return [PREDICT]
        return self._names

    def _graph_name(self, name: str) -> str:
        if name in self._names:
            return name
        if name == PREDICT:
            return self._names[0]
        raise InvalidInput(
            f"output '{shorten(name)}' is not available, this model has {listing(self._names)}"
        )

    def _feed(self, tensors: list[Tensor]) -> dict[str, Any]:
        if len(self._inputs) == 1:
            tensors = [self._only(tensors)]
        given = {tensor.name: tensor for tensor in tensors}
        names = [row.name for row in self._inputs]
        missing = [name for name in names if name not in given]
        surplus = [name for name in given if name not in names]
        if missing or surplus or len(given) != len(tensors):
            raise InvalidInput(
                f"the model takes the inputs {listing(names)}, "
                f"got {listing([tensor.name for tensor in tensors])}"
            )
        feed = {row.name: _value(row, given[row.name]) for row in self._inputs}
        self._check_axes(feed)
        return feed

    def _only(self, tensors: list[Tensor]) -> Tensor:
        row = self._inputs[0]
        if len(tensors) == 1:
            sent = tensors[0]
            return Tensor(row.name, sent.datatype, sent.shape, sent.data, sent.parameters)
        if len(row.shape) != 2 or not tensors or any(tensor.name == row.name for tensor in tensors):
            raise InvalidInput(
                f"the model takes one input, '{shorten(row.name)}', "
                f"got {listing([tensor.name for tensor in tensors]) or 'none'}"
            )
        columns = [_column(tensor, row.datatype) for tensor in tensors]
        if len({len(column) for column in columns}) > 1:
            raise InvalidInput("the columns of the table differ in length")
        return tensor_of(row.name, np.stack(columns, axis=1))

    def _check_axes(self, feed: dict[str, Any]) -> None:
        """Check that a dimension that the graph names has the same length in all inputs."""
        seen: dict[str, tuple[str, int]] = {}
        for name, axes in self._axes.items():
            for position, axis in axes:
                length = feed[name].shape[position]
                first, expected = seen.setdefault(axis, (name, length))
                if length != expected:
                    raise InvalidInput(
                        f"input '{shorten(name)}': shape[{position}] is {length}, but input "
                        f"'{shorten(first)}' has {expected} there ('{shorten(axis)}')"
                    )


def run(session: Any, names: list[str], feed: dict[str, Any], options: Any = None) -> list[Any]:
    """Run a graph.

    Raises:
        InvalidInput: the graph refuses the type, the shape or the values of an input, such as an
            index out of range.
    """
    try:
        answers: list[Any] = session.run(names, feed, options)
    except Exception as error:
        misfit = _misfit(session, feed)
        if not misfit and type(error).__name__ != "InvalidArgument":
            raise
        why = misfit or "the graph refuses a value or shape of its inputs"
        raise InvalidInput(why) from error
    return answers


def _misfit(session: Any, feed: dict[str, Any]) -> str:
    """The first input that is not what the graph says it takes; empty if all are."""
    for node in session.get_inputs():
        row, array = _tensor(node), np.asarray(feed[node.name])
        if row is None:
            continue
        is_text = row.datatype == "BYTES" and array.dtype.kind in "OUS"
        shape = list(array.shape)
        fits = len(shape) == len(row.shape) and all(
            want in (-1, have) for want, have in zip(row.shape, shape)
        )
        if not fits or not (is_text or type_of(array) == row.datatype):
            return (
                f"input '{shorten(node.name)}': expected {row.datatype} of shape {row.shape}, "
                f"got {described(array)}"
            )
    return ""


def rows_are_free(session: Any) -> bool:
    """Whether every input and output begins with the same free dimension."""
    firsts = {
        node.shape[0] if node.shape else 1
        for node in (*session.get_inputs(), *session.get_outputs())
        if not _is_map(node)
    }
    return len(firsts) == 1 and not isinstance(firsts.pop(), int)


def _input(node: Any, what: str) -> TensorMetadata:
    row = _tensor(node)
    if row is None:
        raise InvalidModel(
            f"{what}: its input '{shorten(node.name)}' is not a tensor that can be sent"
        )
    return row


def _output(node: Any) -> TensorMetadata | None:
    # scikit-learn's converter writes probabilities as one map for each row.
    return TensorMetadata(node.name, "FP32", [-1, -1]) if _is_map(node) else _tensor(node)


def _tensor(node: Any) -> TensorMetadata | None:
    kind, _, inner = node.type.partition("(")
    datatype = _DATATYPES.get(inner.rstrip(")"))
    if kind != "tensor" or datatype is None:
        return None
    shape = [dim if isinstance(dim, int) else -1 for dim in node.shape]
    return TensorMetadata(node.name, datatype, shape)


def _is_map(node: Any) -> bool:
    return str(node.type).startswith("seq(map(") and str(node.type).endswith(",tensor(float)))")


def _axes(session: Any) -> dict[str, list[tuple[int, str]]]:
    return {
        node.name: [(i, dim) for i, dim in enumerate(node.shape) if isinstance(dim, str)]
        for node in session.get_inputs()
    }


def _value(row: TensorMetadata, tensor: Tensor) -> Any:
    """The tensor as the graph's input takes it, in datatype and shape."""
    where = f"input '{shorten(row.name)}'"
    if tensor.datatype == "BYTES" and tensor.content_type not in (None, "str"):
        raise InvalidInput(f"{where}: expected text, got {shorten(tensor.content_type)}")
    data = cast(tensor, row.datatype, where)
    value = array_of(Tensor(row.name, row.datatype, tensor.shape, data))
    # An input without a declared shape takes any; one that is a single number looks the same.
    if not row.shape or _fits(value.shape, row.shape):
        return value
    # Tables send columns as [N], graphs write them [N, 1], or the other way round.
    if len(row.shape) == 2 and row.shape[1] == 1 and value.ndim == 1:
        return value[:, None]
    if len(row.shape) == 1 and value.ndim == 2 and value.shape[1] == 1:
        return value[:, 0]
    raise InvalidInput(f"{where}: expected shape {row.shape}, got {list(tensor.shape)}")


def _fits(shape: tuple[int, ...], expected: list[int]) -> bool:
    return len(shape) == len(expected) and all(
        want in (-1, have) for have, want in zip(shape, expected)
    )


def _column(tensor: Tensor, datatype: str) -> Any:
    return _value(TensorMetadata(tensor.name, datatype, [-1]), tensor)


def _array(value: Any) -> Any:
    """An output as an array; maps, one for each row, become columns in the order of their keys."""
    if isinstance(value, np.ndarray):
        return value
    keys = sorted(value[0]) if value else []
    return np.array([[row[key] for key in keys] for row in value], np.float32).reshape(
        -1, len(keys)
    )

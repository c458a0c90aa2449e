"""A request as one call of a Transformers pipeline."""

from __future__ import annotations

from typing import Any, NamedTuple

from headrace.codecs import bytes_elements, decode_input
from headrace.codecs.huggingface_content import DECODERS
from headrace.errors import InvalidInput, listing, shorten
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.reserved_parameters import RESERVED
from headrace.protocol.tensor import Tensor
from headrace.runtimes.huggingface.pipeline_task import Task

POSITIONAL = ("args", "array_inputs")


class Call(NamedTuple):
    """The inputs by row, or a single one that is not a list, and the options of a call.

    `rows` is the number of answers expected.
    """

    inputs: Any
    options: dict[str, Any]
    rows: int


def bind(request: InferenceRequest, task: Task, merged: bool) -> Call:
    """The call that a request stands for.

    An input named `args` or `array_inputs`, or a first one that is not an option, is what the
    pipeline computes; the others and the request's parameters are options. Inputs that
    together make a row are joined. `merged` means that the request may be a batch of
    several, whose options cannot be separated.

    Raises:
        InvalidInput: an input or parameter is unknown, or is not what its content type says.
    """
    inputs: list[Any] = []
    columns: dict[str, list[Any]] = {}
    options: dict[str, Any] = {}
    several: list[Tensor] = []
    for index, tensor in enumerate(request.inputs):
        name = tensor.name
        value = _value(tensor, request.content_type, task)
        if name in task.columns:
            columns[name] = value if isinstance(value, list) else [value]
        elif name in (*POSITIONAL, task.leading) or (index == 0 and name not in task.options):
            inputs.append(_chat(value, tensor))
        elif name in task.options:
            options[name] = value
            several.append(tensor)
        else:
            raise _unknown("input", name, task)
    for name, value in (request.parameters or {}).items():
        if name not in RESERVED:
            if name not in task.options:
                raise _unknown("parameter", name, task)
            options.setdefault(name, value)
    labels = options.get("candidate_labels")
    if isinstance(labels, str):
        options["candidate_labels"] = [
            label.strip() for label in labels.split(",") if label.strip()
        ]
    if columns:
        inputs.append(_joined(columns))
    if len(inputs) != 1:
        raise InvalidInput(
            "the request has no input" if not inputs else "the request has more than one input"
        )
    if task.name == "table-question-answering":
        inputs = _with_text_cells(inputs)
    rows = len(inputs[0]) if isinstance(inputs[0], list) else 1
    if merged:
        _refuse_merged(several, rows)
    return Call(inputs[0], options, rows)


def _value(tensor: Tensor, default: str | None, task: Task) -> Any:
    kind = tensor.content_type or (default if default in DECODERS else None)
    if task.name == "decision" and tensor.datatype == "BYTES" and kind in (None, "str"):
        kind = "hg_jsonlist"
    if kind in DECODERS:
        value = DECODERS[kind](tensor)
        return _pairs(value, tensor, task) if tensor.datatype == "BYTES" else value
    if tensor.datatype == "BYTES":
        return bytes_elements.decode(tensor)
    value = decode_input(tensor)
    if value.ndim == 1 and value.size > 1 and task.medium == "sound":
        return [value]
    flat = value.ravel().tolist()
    return flat[0] if value.size == 1 and value.ndim <= 1 else list(value)


def _pairs(value: Any, tensor: Tensor, task: Task) -> Any:
    if task.name != "keypoint-matching" or tensor.content_type in ("hg_json", "hg_jsonlist"):
        return value
    if len(tensor.shape) != 2 or tensor.shape[1] != 2:
        raise InvalidInput(
            f"input '{shorten(tensor.name)}': expected pairs of images, shape [-1, 2], "
            f"got {list(tensor.shape)}"
        )
    return [value[i : i + 2] for i in range(0, len(value), 2)]


def _chat(value: Any, tensor: Tensor) -> Any:
    """The value; a lone chat, which is a list of messages, as the only row."""
    if not (isinstance(value, list) and value and _is_message(value[0])):
        return value
    if tensor.content_type == "hg_jsonlist":
        raise InvalidInput(
            f"input '{shorten(tensor.name)}': each element of 'hg_jsonlist' is a row; expected a "
            "chat, the list of its messages, got a message"
        )
    return [value]


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and "role" in value and "content" in value


def _joined(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """One dict per row; a column of one element applies to every row."""
    rows = max(map(len, columns.values()))
    for name, values in columns.items():
        if len(values) not in (1, rows):
            raise InvalidInput(
                f"input '{shorten(name)}': expected 1 or {rows} elements, got {len(values)}"
            )
    return [
        {name: values[0 if len(values) == 1 else row] for name, values in columns.items()}
        for row in range(rows)
    ]


def _with_text_cells(value: Any, key: str = "") -> Any:
    """Rows whose tables have text in every cell, as the tokenizers of tables take them."""
    if isinstance(value, dict):
        return {
            name: _with_text_cells(item, "table" if key or name == "table" else "")
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_with_text_cells(item, key) for item in value]
    return str(value) if key else value


def _refuse_merged(options: list[Tensor], rows: int) -> None:
    # A single request with one element is unambiguous, and so are two different lengths:
    # the batcher merges only inputs that agree on their number of rows.
    for tensor in options:
        if rows > 1 and tensor.shape and tensor.shape[0] == rows:
            raise InvalidInput(
                f"input '{shorten(tensor.name)}': an option with as many elements as there are "
                "rows looks like rows of a batch; send it as a parameter, or set "
                "max_batch_size to 1"
            )


def _unknown(what: str, name: str, task: Task) -> InvalidInput:
    inputs = listing([*(task.columns or ["args"])])
    return InvalidInput(
        f"{what} '{shorten(name)}' is unknown, this task takes {inputs} and options "
        f"{listing(sorted(task.options)) or 'none'}"
    )

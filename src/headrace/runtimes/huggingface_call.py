"""What a request may ask of a Transformers pipeline: its inputs, and which options it takes."""

from __future__ import annotations

import inspect
import os
from typing import Any, NamedTuple

from headrace.codecs import cells, decode_input
from headrace.codecs.huggingface import DECODERS
from headrace.errors import InvalidInput, listing, shorten
from headrace.protocol.messages import InferenceRequest, TensorMetadata
from headrace.protocol.tensor import Tensor

POSITIONAL = ("args", "array_inputs")
_NOT_OPTIONS = ("content_type", "headers")

# These load code, files or other models, start processes, or are not the caller's to choose.
_DENIED = {
    "self", "args", "kwargs", "batch_size", "num_workers", "device", "model", "tokenizer",
    "generate_kwargs", "tokenizer_kwargs", "model_kwargs", "trust_remote_code", "token",
    "custom_generate", "assistant_model", "generation_config", "transformers_version",
    "tesseract_config", "chat_template", "parameters",
}  # fmt: skip

# Options that a pipeline reads from its free keywords, which no signature shows.
_OF_TASK: dict[str, tuple[str, ...]] = {
    "zero-shot-classification": ("candidate_labels", "hypothesis_template", "multi_label"),
    "zero-shot-image-classification": ("candidate_labels", "hypothesis_template"),
    "zero-shot-audio-classification": ("candidate_labels", "hypothesis_template"),
    "zero-shot-object-detection": ("candidate_labels", "threshold", "top_k"),
    "question-answering": (
        "question", "context", "top_k", "doc_stride", "max_answer_len", "max_seq_len",
        "max_question_len", "handle_impossible_answer", "align_to_words",
    ),
    "table-question-answering": ("table", "query"),
    "visual-question-answering": ("image", "question", "top_k"),
    "object-detection": ("threshold",),
    "image-segmentation": ("subtask", "threshold", "mask_threshold", "overlap_mask_area_threshold"),
    "mask-generation": ("points_per_batch", "pred_iou_thresh", "stability_score_thresh"),
}  # fmt: skip

_ROWS_BY_NAME: dict[str, tuple[str, ...]] = {
    "question-answering": ("question", "context"),
    "table-question-answering": ("table", "query"),
    "visual-question-answering": ("image", "question"),
    "document-question-answering": ("image", "question"),
}
_MEDIA = (
    "image", "audio", "video", "visual", "document", "speech", "object-detection", "depth",
    "mask-generation", "keypoint", "any-to-any",
)  # fmt: skip


class Task(NamedTuple):
    """What a pipeline does, the name of its first argument, and the options callers may set."""

    name: str
    leading: str
    options: set[str]


class Call(NamedTuple):
    """Arguments of one call of a pipeline; `rows` is how many answers it should give."""

    positional: list[Any]
    keywords: dict[str, Any]
    rows: int


def is_media(task: str) -> bool:
    """Whether the task takes images, sound or video, which its pipeline may fetch by name."""
    return task != "text-to-audio" and any(word in task for word in _MEDIA)


def task_of(pipeline: Any) -> Task:
    """The task of a pipeline, as its signatures tell."""
    found = set(_OF_TASK.get(pipeline.task, ()))
    leading = next(
        name for name in inspect.signature(type(pipeline).__call__).parameters if name != "self"
    )
    for function in (pipeline._sanitize_parameters, type(pipeline).__call__):
        found |= set(inspect.signature(function).parameters)
    model = getattr(pipeline, "model", None)
    config = getattr(pipeline, "generation_config", None) or getattr(
        model, "generation_config", None
    )
    if config is not None:
        found |= {name for name in vars(config) if not name.startswith("_")}
    return Task(pipeline.task, leading, found - _DENIED - {leading})


def bind(request: InferenceRequest, task: Task, merged: bool) -> Call:
    """The call that a request stands for.

    Inputs named `args` or `array_inputs`, and a first one that is no option, are positional;
    the others and the request's parameters are options. `merged` says that the request may
    be a batch of several, whose options cannot be told apart.

    Raises:
        InvalidInput: an input or parameter is unknown, or is not what its content type says.
    """
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    options = task.options
    rows_by_name = _ROWS_BY_NAME.get(task.name, ())
    rows = 0
    several: list[Tensor] = []
    for index, tensor in enumerate(request.inputs):
        by_row = tensor.name in rows_by_name
        value = _value(tensor, request.content_type)
        if tensor.name in (*POSITIONAL, task.leading) or (
            index == 0 and tensor.name not in options
        ):
            positional.append(value)
            by_row = True
        elif tensor.name in options:
            keywords[tensor.name] = value
        else:
            raise _unknown("input", tensor.name, options)
        if by_row:
            rows = max(rows, len(value) if isinstance(value, list) else 1)
        else:
            several.append(tensor)
    if merged:
        _refuse_merged(several, rows)
    for name, value in (request.parameters or {}).items():
        if name not in _NOT_OPTIONS:
            if name not in options:
                raise _unknown("parameter", name, options)
            keywords.setdefault(name, value)
    if not positional and not any(name in keywords for name in options):
        raise InvalidInput("the request has no input")
    return Call(positional, keywords, rows)


def refuse_names(value: Any, where: str) -> None:
    """Refuse texts that a pipeline would fetch from a network or from this machine's disk.

    Raises:
        InvalidInput: one of the texts is an address or the name of a file.
    """
    if isinstance(value, str):
        if value.lower().lstrip().startswith(("http:", "https:", "file:")) or _is_path(value):
            raise InvalidInput(
                f"{where}: expected the data itself, got an address or a file's name; "
                "send it with content_type 'pillow_image' or 'nplist', or allow addresses with "
                "fetch_inputs in parameters.extra"
            )
    elif isinstance(value, dict):
        for item in value.values():
            refuse_names(item, where)
    elif isinstance(value, (list, tuple)):
        for item in value:
            refuse_names(item, where)


def inputs_of(task: str) -> list[TensorMetadata]:
    """How a client sees the inputs of a task."""
    text = {"content_type": "str"}
    if task in _ROWS_BY_NAME:
        return [
            TensorMetadata(
                name,
                "BYTES",
                [-1],
                {
                    "content_type": {"image": "pillow_image", "table": "hg_jsonlist"}.get(
                        name, "str"
                    )
                },
            )
            for name in _ROWS_BY_NAME[task]
        ]
    if "audio" in task and task != "text-to-audio" or "speech" in task:
        first = TensorMetadata("array_inputs", "FP32", [-1, -1], {"content_type": "nplist"})
    elif is_media(task):
        first = TensorMetadata("args", "BYTES", [-1], {"content_type": "pillow_image"})
    else:
        first = TensorMetadata("args", "BYTES", [-1], text)
    labels = TensorMetadata("candidate_labels", "BYTES", [-1], text)
    return [first, labels] if task.startswith("zero-shot") else [first]


def _value(tensor: Tensor, default: str | None) -> Any:
    kind = tensor.content_type or (default if default in DECODERS else None)
    if kind in DECODERS:
        return DECODERS[kind](tensor)
    if tensor.datatype == "BYTES":
        return cells.decode(tensor)
    value = decode_input(tensor)
    flat = value.ravel().tolist()
    return flat[0] if value.size == 1 and value.ndim <= 1 else list(value)


def _refuse_merged(options: list[Tensor], rows: int) -> None:
    # A single request with one element is unmistakable, and so are two different lengths:
    # the batcher merges only inputs that agree on their number of rows.
    for tensor in options:
        if rows > 1 and tensor.shape and tensor.shape[0] == rows:
            raise InvalidInput(
                f"input '{shorten(tensor.name)}': an option with as many elements as there are "
                "rows cannot be told from rows of a batch; send it as a parameter, or set "
                "max_batch_size to 1"
            )


def _unknown(what: str, name: str, options: set[str]) -> InvalidInput:
    return InvalidInput(
        f"{what} '{shorten(name)}' is unknown, this task takes 'args' and "
        f"{listing(sorted(options))}"
    )


def _is_path(text: str) -> bool:
    try:
        return os.path.exists(text)
    except (ValueError, OSError):
        return False

"""Bounds what a model answers before it leaves the worker: the front process holds all of it."""

from __future__ import annotations

from math import prod
from typing import Any

from headrace.errors import AnswerTooLarge, BadModelOutput, listing, shorten
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.tensor import Tensor
from headrace.settings import ModelSettings
from headrace.worker import frames
from headrace.worker.frame_json import dump
from headrace.worker.frames import Frame

# The most bytes of JSON that describe an answer: the names, shapes and parameters of its outputs,
# and its own. The front reads them in one go, which takes it some ten milliseconds.
LONGEST_DESCRIPTION = 4 * 1024 * 1024
# What an element of text counts as, if it has fewer bytes: the front makes an object of each.
_TEXT = 64


def require_size(response: InferenceResponse, settings: ModelSettings) -> InferenceResponse:
    """The answer, or a piece of it, if its outputs are within `max_answer_size`. Hot.

    Raises:
        AnswerTooLarge: they are not.
    """
    size = 0
    # What is no response fails where it is sent.
    for tensor in response.outputs if isinstance(response, InferenceResponse) else ():
        size += len(tensor.data) or _rows(tensor)
    most = settings.max_answer_size
    # Elements of text have four bytes at least, so that few answers need to be counted.
    if most is not None and size > most * 4 // _TEXT:
        size = sum(map(_size, response.outputs))
        if size > most:
            largest = max(response.outputs, key=_size)
            raise AnswerTooLarge(
                f"model '{shorten(settings.name)}' answered {size} bytes, most of them in output "
                f"{listing([largest.name])}, and {most} are allowed, where a text counts as "
                f"{_TEXT} at least; --max-answer-size raises the bound"
            )
    return response


def answer_meta(described: list[list[Any]], response: InferenceResponse, key: str) -> bytes:
    """What a frame says of an answer, whose tensors are described; `key` is the model's.

    Raises:
        AnswerTooLarge: it is too long.
        BadModelOutput: a parameter has no form in JSON.
    """
    meta = {"tensors": described, "parameters": response.parameters}
    if response.form is not None:
        meta["form"] = response.form
    try:
        text = dump(meta)
    except Exception as error:
        raise BadModelOutput("a parameter of the answer has no JSON form") from error
    return require_description(text, key)


def require_description(meta: bytes, key: str) -> bytes:
    """The JSON that describes an answer, or an error, if it is short; `key` is the model's.

    Raises:
        AnswerTooLarge: it is too long.
    """
    if len(meta) > LONGEST_DESCRIPTION:
        name = shorten(key.rpartition("#")[0])
        raise AnswerTooLarge(
            f"model '{name}' answered {len(meta)} bytes of names, shapes, parameters and "
            f"errors, at most {LONGEST_DESCRIPTION} allowed; large values belong in outputs"
        )
    return meta


def error_meta(exc: Exception, frame: Frame) -> bytes:
    """What a frame says of the error that answers another frame."""
    try:
        return require_description(
            dump(frames.failure_meta(exc, frame)), frame.meta.get("model", "")
        )
    except AnswerTooLarge as too_large:
        return dump(frames.error_meta(too_large))


def _size(tensor: Tensor) -> int:
    size = len(tensor.data) or _rows(tensor)
    # A shape may say anything, but no element has fewer bytes than its length.
    texts = min(prod(tensor.shape), size // 4) if tensor.datatype == "BYTES" else 0
    return max(size, texts * _TEXT)


def _rows(tensor: Tensor) -> int:
    """What a tensor without bytes counts as: its rows can be written as empty arrays."""
    count = 1
    for dim in tensor.shape:
        count *= dim or 1
    return count if 0 in tensor.shape else 0

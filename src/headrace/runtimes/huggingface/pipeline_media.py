"""Images, sounds and videos as a Transformers pipeline takes them, from what callers sent.

A pipeline fetches any text that stands for one: a URL, or a file on this machine. So no text
reaches it unless the model's settings allow that.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.codecs import audio, bytes_elements, image
from headrace.errors import InvalidInput, shorten
from headrace.protocol.json_words import word_of
from headrace.protocol.place import place, refusal

# Keys of a row, or of a message in a chat, that are only ever read as text or numbers.
_PLAIN = {
    "candidate_labels", "id", "name", "query", "question", "questions", "role", "sampling_rate",
    "state", "table", "tool_call_id", "type", "word_boxes",
}  # fmt: skip
_TEXT = {"content", "text"}

# The first bytes of files that name no other files: MP4 and the like, WebM, AVI, Ogg, GIF.
_VIDEOS = ((4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"OggS"), (0, b"GIF8"))


def images_in(value: Any, where: str, fetch: bool = False) -> Any:
    """The value with an image in place of each text that is base64 of an image file.

    With `fetch`, texts are kept for the pipeline to fetch or decode.

    Raises:
        InvalidInput: a text that a pipeline would take for an image is not one.
    """
    if isinstance(value, (str, bytes)):
        if fetch and isinstance(value, str):
            return value
        data = value.encode() if isinstance(value, str) else value
        file = bytes_elements.file_of(data)
        if file is data and isinstance(value, str):
            raise InvalidInput(
                f"{where}: expected the data itself, got a URL, a file name or other text; "
                "send an image with content_type 'pillow_image', or allow URLs with "
                "fetch_inputs in parameters.extra"
            )
        return image.opened(file, where)
    if isinstance(value, dict):
        return {
            key: item if key in _PLAIN or _is_text(key, item) else images_in(item, where, fetch)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [images_in(item, where, fetch) for item in value]
    return value


def sounds_of(
    values: list[Any], rate: int, given: Any, where: str, fetch: bool = False
) -> list[Any]:
    """Each value as an array of shape (samples,), `rate` of them per second.

    A value is an array, a list of numbers, the bytes or the base64 text of a sound file, or
    a dict with `sampling_rate` and `array` or `raw`. `given` is the rate of those that name none.
    With `fetch`, texts are kept for the pipeline to fetch.

    Raises:
        InvalidInput: a value is none of these, or has another rate and torchaudio is missing.
    """
    if given is not None and not _is_rate(given):
        raise InvalidInput("option 'sampling_rate': expected a whole number above 0")
    return [
        value
        if fetch and isinstance(value, str)
        else _sound(value, rate, given, place(where, index, [len(values)]))
        for index, value in enumerate(values)
    ]


@contextlib.contextmanager
def videos_as_files(values: list[Any], where: str, fetch: bool = False) -> Iterator[list[str]]:
    """Names of files that hold the videos for as long as the context lasts.

    With `fetch`, texts are kept for the pipeline to fetch.

    Raises:
        InvalidInput: a value is not the bytes of a video file.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        names = []
        for index, value in enumerate(values):
            if fetch and isinstance(value, str):
                names.append(value)
                continue
            is_video = isinstance(value, bytes) and any(
                value[start : start + len(mark)] == mark for start, mark in _VIDEOS
            )
            if not is_video:
                raise refusal(
                    where,
                    index,
                    [len(values)],
                    "the data itself, a video file (MP4, MOV, WebM, MKV, AVI, Ogg, GIF) with "
                    "content_type 'base64'",
                    "other bytes" if isinstance(value, bytes) else word_of(type(value)),
                )
            names.append(os.path.join(folder, str(index)))
            with open(names[-1], "wb") as file:
                file.write(value)
        yield names


def are_alike(values: list[Any]) -> bool:
    """Whether images or sounds all have the same size, so that none needs padding."""
    return len({getattr(value, "size", None) for value in values}) <= 1


def _is_text(key: str, value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return key in _TEXT and all(isinstance(item, str) for item in items)


def _sound(value: Any, rate: int, given: int | None, where: str) -> Any:
    if isinstance(value, (str, bytes)):
        value = audio.opened(
            bytes_elements.file_of(value.encode() if isinstance(value, str) else value), where
        )
    if isinstance(value, dict):
        if not {"raw", "array"} & set(value) or not _is_rate(value.get("sampling_rate")):
            raise InvalidInput(f"{where}: expected 'array' and 'sampling_rate', a whole number")
        given = value["sampling_rate"]
        value = value["array"] if "array" in value else value["raw"]
    try:
        samples = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{where}: expected the samples of a sound as numbers") from error
    if samples.ndim != 1 or not samples.size:
        raise InvalidInput(
            f"{where}: expected the samples of one channel, got shape {list(samples.shape)}"
        )
    return (
        samples if given in (None, rate) else _resampled(samples, int(given or rate), rate, where)
    )


def _is_rate(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _resampled(samples: Any, given: int, rate: int, where: str) -> Any:
    try:
        functional = importlib.import_module("torchaudio.functional")
    except ImportError as error:
        raise InvalidInput(
            f"{where}: expected {rate} samples per second, got {shorten(given)}; other rates are "
            "converted if the model's environment has torchaudio"
        ) from error
    torch = importlib.import_module("torch")
    return functional.resample(torch.from_numpy(samples), given, rate).numpy()

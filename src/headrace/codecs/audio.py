"""Sounds in BYTES tensors: the base64 text of a sound file, or the file itself."""

from __future__ import annotations

import importlib
import io
import struct
from typing import Any

import numpy as np

from headrace.codecs import bytes_elements
from headrace.errors import InvalidInput, TooLarge, shorten
from headrace.protocol.place import place
from headrace.protocol.tensor import Tensor

KIND = "audio"
MAX_SAMPLES = 50_000_000

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


def decode(tensor: Tensor) -> list[dict[str, Any]]:
    """The elements as `{"array": ..., "sampling_rate": ...}`.

    The array has shape (samples,) and float32 values from -1 to 1, the mean of the channels.

    Raises:
        InvalidInput: an element is not a sound file that can be read here.
        TooLarge: a sound has more than `MAX_SAMPLES` samples.
    """
    where = f"input '{shorten(tensor.name)}'"
    return [
        opened(bytes_elements.file_of(element), place(where, index, tensor.shape))
        for index, element in enumerate(bytes_elements.raw(tensor))
    ]


def opened(file: bytes, where: str) -> dict[str, Any]:
    """The sound in the bytes of a WAV file, or of any that `soundfile` reads if it is installed.

    Raises:
        InvalidInput: it is not such a file; the message begins with `where`.
        TooLarge: it has more than `MAX_SAMPLES` samples.
    """
    try:
        if file[:4] == b"RIFF" and file[8:12] == b"WAVE":
            samples, rate = _wav(file, where)
        else:
            samples, rate = _by_soundfile(file, where)
    except (ValueError, struct.error) as error:
        raise InvalidInput(f"{where} is not a sound file that can be read, such as WAV") from error
    return {"array": samples.mean(axis=1, dtype=np.float32), "sampling_rate": rate}


def _wav(file: bytes, where: str) -> tuple[np.ndarray[Any, Any], int]:
    """Samples of shape (samples, channels), and how many there are per second.

    Source: "Multimedia Programming Interface and Data Specifications 1.0", IBM and Microsoft.
    """
    chunks = _chunks(file)
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    if code == _EXTENSIBLE:
        (code,) = struct.unpack_from("<H", chunks[b"fmt "], 24)
    width = bits // 8
    if not channels or not rate or not width:
        raise ValueError("a header of zeros")
    data = chunks[b"data"]
    _check(len(data) // width, where)
    data = data[: len(data) - len(data) % (width * channels)]
    return _values(data, code, width).reshape(-1, channels), rate


def _chunks(file: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    start = 12
    while start + 8 <= len(file):
        name, size = struct.unpack_from("<4sI", file, start)
        found.setdefault(name, file[start + 8 : start + 8 + size])
        start += 8 + size + size % 2
    if b"fmt " not in found or b"data" not in found:
        raise ValueError("no format or no data")
    return found


def _values(data: bytes, code: int, width: int) -> np.ndarray[Any, Any]:
    if code == _FLOAT and width in (4, 8):
        return np.frombuffer(data, f"<f{width}").astype(np.float32)
    if code != _PCM or width not in (1, 2, 3, 4):
        raise ValueError("compressed")
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    # 24 bits become the upper bits of 32.
    padded = np.zeros((len(data) // width, 4), np.uint8)
    padded[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    return padded.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)


def _by_soundfile(file: bytes, where: str) -> tuple[np.ndarray[Any, Any], int]:
    try:
        soundfile = importlib.import_module("soundfile")
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"{where} is not a WAV file; FLAC, OGG and MP3 can be read if the model's environment "
            "has soundfile: pip install soundfile"
        ) from error
    try:
        with soundfile.SoundFile(io.BytesIO(file)) as sound:
            _check(sound.frames * sound.channels, where)
            return sound.read(dtype="float32", always_2d=True), sound.samplerate
    except soundfile.SoundFileError as error:
        raise ValueError("unknown to soundfile") from error


def _check(samples: int, where: str) -> None:
    if samples > MAX_SAMPLES:
        raise TooLarge(f"{where}: {samples} samples are over {MAX_SAMPLES}")

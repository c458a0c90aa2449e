from __future__ import annotations

import base64
import io
import struct
import sys
import wave

import numpy as np
import pytest

from headrace.codecs import audio, decode_input
from headrace.errors import InvalidInput, TooLarge
from headrace.protocol.tensor import Tensor, pack_bytes

SAMPLES = np.array([0.0, 0.5, -0.5, 0.25], np.float64)


def wav(samples=SAMPLES, width=2, channels=1, rate=8000):
    file = io.BytesIO()
    scaled = np.round(samples * 2.0 ** (8 * width - 1)).astype("<i4")
    data = scaled.view(np.uint8).reshape(-1, 4)[:, :width]
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, width, rate, 0, "NONE", ""))
        writer.writeframes(((data + 128) if width == 1 else data).astype(np.uint8).tobytes())
    return file.getvalue()


def floats(samples, width):
    data = samples.astype(f"<f{width}").tobytes()
    head = struct.pack("<HHIIHH", 3, 1, 8000, 8000 * width, width, 8 * width)
    return b"".join(
        [b"RIFF", struct.pack("<I", 36 + len(data)), b"WAVE", b"fmt ", struct.pack("<I", 16), head]
        + [b"data", struct.pack("<I", len(data)), data]
    )


def sounds(*files):
    return decode_input(
        Tensor("x", "BYTES", [len(files)], pack_bytes(files), {"content_type": "audio"})
    )


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_whole_numbers_of_any_width_become_fractions(width):
    (sound,) = sounds(wav(width=width))
    assert sound["sampling_rate"] == 8000
    assert sound["array"].dtype == np.float32
    np.testing.assert_allclose(sound["array"], SAMPLES)


@pytest.mark.parametrize("width", [4, 8])
def test_floating_point_stays_as_it_is(width):
    (sound,) = sounds(floats(SAMPLES, width))
    np.testing.assert_array_equal(sound["array"], SAMPLES.astype(np.float32))


def test_a_file_is_sent_as_it_is_or_as_base64():
    (plain, coded) = sounds(wav(), base64.b64encode(wav()))
    np.testing.assert_array_equal(plain["array"], coded["array"])


def test_channels_are_averaged():
    (sound,) = sounds(wav(np.array([0.5, 0.0, -0.5, 0.0]), channels=2))
    np.testing.assert_allclose(sound["array"], [0.25, -0.25])


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(wav()[:20], id="cut"),
        pytest.param(b"RIFF\0\0\0\0WAVE", id="empty"),
        pytest.param(wav().replace(b"\x01\0\x01\0", b"\x55\0\x01\0", 1), id="MP3 inside"),
        pytest.param(wav()[:22] + b"\0\0" + wav()[24:], id="no channels"),
    ],
)
def test_a_broken_file_is_refused_by_its_index(file):
    with pytest.raises(InvalidInput, match="input 'x', row 1 is not a sound file"):
        sounds(wav(), file)


def test_a_cut_last_sample_is_left_out():
    (sound,) = sounds(wav()[:-1])
    np.testing.assert_allclose(sound["array"], SAMPLES[:-1])


def test_a_sound_of_too_many_samples_is_refused(monkeypatch):
    monkeypatch.setattr(audio, "MAX_SAMPLES", 3)
    with pytest.raises(TooLarge, match="row 0: 4 samples are over 3"):
        sounds(wav())


def test_other_files_need_soundfile_and_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(InvalidInput, match="is not a WAV file.*pip install soundfile"):
        sounds(b"fLaC")


@pytest.mark.runtimes
@pytest.mark.parametrize("form", ["FLAC", "OGG"])
def test_soundfile_reads_other_files(form):
    soundfile = pytest.importorskip("soundfile")
    file = io.BytesIO()
    wave = np.sin(np.arange(800) / 20) / 2
    soundfile.write(file, wave, 8000, format=form)
    (sound,) = sounds(file.getvalue())
    assert sound["sampling_rate"] == 8000
    np.testing.assert_allclose(sound["array"], wave, atol=0.05)


@pytest.mark.runtimes
def test_what_soundfile_cannot_read_is_refused():
    pytest.importorskip("soundfile")
    with pytest.raises(InvalidInput, match="row 0 is not a sound file"):
        sounds(b"#EXTM3U\nfile:///etc/passwd\n")

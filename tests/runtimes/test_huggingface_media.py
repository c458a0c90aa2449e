"""Sounds, images and videos that callers send to Hugging Face models, and what is refused."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import wave

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("torch")

from PIL import Image

from headrace.codecs import image
from headrace.codecs.array import tensor_of
from headrace.codecs.huggingface_content import json_list
from headrace.errors import InvalidInput, LoadFailed, MissingDependency
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings
from support import tiny_transformers as tiny

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.filterwarnings("default:::transformers"),
    pytest.mark.filterwarnings("ignore:.*SWIG.*:DeprecationWarning"),
]

# Fractions that 16 bits hold exactly.
SOUND = np.random.default_rng(0).integers(-(2**14), 2**14, 400).astype(np.float32) / 2**15
RED = Image.new("RGB", (8, 8), "red")
SPAM = {"a": {"type": "noul", "instructions": "is this good"}}


def wav(rate=16000):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate, 0, "NONE", ""))
        writer.writeframes((SOUND * 2**15).astype("<i2").tobytes())
    return file.getvalue()


def load(folder, save, task, **extra):
    save(folder)
    model = create(
        ModelSettings("m", "huggingface", uri=str(folder), extra={"task": task, **extra})
    )
    model.load()
    return model


def packed(*values, name="args", kind=None):
    return Tensor(
        name, "BYTES", [len(values)], pack_bytes(values), {"content_type": kind} if kind else None
    )


def texts(*values, name="args"):
    return packed(*[value.encode() for value in values], name=name, kind="str")


def rows_of_json(*values, name="args", kind="hg_jsonlist"):
    return packed(*[json.dumps(value).encode() for value in values], name=name, kind=kind)


def array(samples, name="array_inputs", **parameters):
    made = tensor_of(name, samples)
    made.parameters = parameters or None
    return made


def ask(model, *tensors, **parameters):
    (output,) = model.infer(InferenceRequest(list(tensors), parameters or None)).outputs
    return json_list(output)


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(packed(wav(), kind="audio"), id="file"),
        pytest.param(packed(base64.b64encode(wav()), kind="audio"), id="base64"),
        pytest.param(packed(base64.b64encode(wav()), kind="base64"), id="bytes"),
        pytest.param(packed(base64.b64encode(wav())), id="text"),
        pytest.param(array(SOUND), id="array"),
        pytest.param(array(SOUND[None], content_type="nplist"), id="nplist"),
        pytest.param(rows_of_json({"raw": SOUND.tolist(), "sampling_rate": 16000}), id="raw"),
        pytest.param(rows_of_json({"array": SOUND.tolist(), "sampling_rate": 16000}), id="dict"),
        pytest.param(rows_of_json(SOUND.tolist()), id="list"),
    ],
)
def test_a_sound_may_be_sent_in_any_of_these_forms(sound, tmp_path):
    model = load(tmp_path, tiny.wav2vec2, "automatic-speech-recognition")
    assert ask(model, sound) == [model._pipeline(SOUND)]


def test_the_rate_of_a_sound_may_be_an_option(tmp_path):
    model = load(tmp_path, tiny.wav2vec2, "automatic-speech-recognition")
    assert ask(model, array(SOUND), sampling_rate=16000) == [model._pipeline(SOUND)]


@pytest.mark.skipif(importlib.util.find_spec("torchaudio") is not None, reason="has torchaudio")
@pytest.mark.parametrize(
    ("sound", "options"),
    [
        pytest.param(packed(wav(8000), kind="audio"), {}, id="file"),
        pytest.param(array(SOUND), {"sampling_rate": 8000}, id="option"),
    ],
)
def test_another_rate_is_refused_without_torchaudio(sound, options, tmp_path):
    model = load(tmp_path, tiny.wav2vec2, "automatic-speech-recognition")
    with pytest.raises(
        InvalidInput, match=r"expected 16000 samples per second, got 8000.*torchaudio"
    ):
        ask(model, sound, **options)


@pytest.mark.parametrize(
    ("sound", "complaint"),
    [
        pytest.param(texts("/etc/passwd"), "row 0 is not", id="path"),
        pytest.param(texts("http://127.0.0.1:9/x.wav"), "row 0 is not", id="address"),
        pytest.param(rows_of_json({"raw": [1]}), "expected 'array' and 'sampling_rate'", id="dict"),
        pytest.param(rows_of_json(["a"]), "expected the samples of a sound", id="words"),
        pytest.param(array(np.ones((1, 2, 9))), r"one channel, got shape \[2, 9\]", id="stereo"),
        pytest.param(rows_of_json([]), r"one channel, got shape \[0\]", id="empty"),
    ],
)
def test_an_input_that_is_not_a_sound_is_refused(sound, complaint, tmp_path):
    model = load(tmp_path, tiny.wav2vec2, "automatic-speech-recognition")
    with pytest.raises(InvalidInput, match=f"^input '.*{complaint}"):
        ask(model, sound)


def test_no_program_is_started_to_read_a_sound(tmp_path, monkeypatch):
    def start(*args, **options):
        raise AssertionError("a program was started")

    model = load(tmp_path, tiny.wav2vec2, "automatic-speech-recognition")
    monkeypatch.setattr("subprocess.Popen", start)
    with pytest.raises(InvalidInput, match="row 0 is not"):
        ask(model, packed(b"#EXTM3U\nfile:///etc/passwd\n", kind="audio"))


def test_postscript_inside_text_is_not_run(tmp_path):
    model = load(tmp_path, tiny.vit, "image-classification")
    page = base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(InvalidInput, match="is not an image, one of PNG"):
        ask(model, packed(page))


PAGE = "http://127.0.0.1:9/x.png"
CHAT = {"role": "user", "content": [{"type": "image", "url": PAGE}, {"type": "text", "text": "x"}]}


@pytest.mark.parametrize(
    ("save", "task", "tensors"),
    [
        pytest.param(tiny.llava, "image-text-to-text", [rows_of_json([CHAT])], id="chat"),
        pytest.param(
            tiny.llava,
            "image-text-to-text",
            [rows_of_json([CHAT], name="text")],
            id="chat as text",
        ),
        pytest.param(
            tiny.layoutlm,
            "document-question-answering",
            [texts("/etc/passwd", name="image"), texts("good", name="question")],
            id="column",
        ),
        pytest.param(
            tiny.vits,
            "text-to-audio",
            [rows_of_json([{"role": "0", "content": [{"type": "audio", "path": "/etc/passwd"}]}])],
            id="voice",
        ),
        pytest.param(
            tiny.llama,
            "decision",
            [rows_of_json({"state": "x", "questions": SPAM, "assets": {"x": PAGE}})],
            id="asset",
        ),
        pytest.param(
            tiny.llama,
            "decision",
            [texts(json.dumps({"state": "x", "questions": SPAM, "assets": {"x": PAGE}}))],
            id="asset in text",
        ),
    ],
)
def test_urls_anywhere_in_a_row_are_refused(save, task, tensors, tmp_path):
    model = load(tmp_path, save, task)
    with pytest.raises(InvalidInput, match="expected the data itself, got a URL"):
        ask(model, *tensors)


def test_a_chat_holds_its_image(tmp_path):
    model = load(tmp_path, tiny.llava, "image-text-to-text")
    parts = [{"type": "image", "image": image.to_text(RED)}, {"type": "text", "text": "good"}]
    chat = [{"role": "user", "content": parts}]
    (row,) = ask(model, rows_of_json(chat, kind="hg_json"), max_new_tokens=3)
    seen = [{"role": "user", "content": [{"type": "image", "image": RED}, parts[1]]}]
    expected = model._pipeline(text=seen, max_new_tokens=3)
    assert row[0]["generated_text"][-1] == expected[0]["generated_text"][-1]


def test_a_message_outside_a_chat_is_refused(tmp_path):
    model = load(tmp_path, tiny.llama, "text-generation")
    with pytest.raises(InvalidInput, match="expected a chat, the list of its messages"):
        ask(model, rows_of_json({"role": "user", "content": "good"}))


@pytest.mark.parametrize("option", ["forward_params", "preprocess_params", "generate_kwargs"])
def test_a_dict_of_further_options_is_refused(option, tmp_path):
    model = load(tmp_path, tiny.vits, "text-to-audio")
    loads_code = rows_of_json({"custom_generate": "x", "trust_remote_code": True}, kind="hg_json")
    loads_code.name = option
    with pytest.raises(InvalidInput, match=f"input '{option}' is unknown"):
        ask(model, texts("a b"), loads_code)


def test_a_voice_is_chosen_by_an_option(tmp_path):
    model = load(tmp_path, tiny.vits, "text-to-audio")
    first, second = (ask(model, texts("a b"), speaker_id=number) for number in (0, 1))
    assert first != second
    assert first[0]["audio"] == pytest.approx(
        model._pipeline("a b", forward_params={"speaker_id": 0})["audio"].tolist()
    )


def test_numbers_in_a_table_are_taken_as_text(tmp_path):
    model = load(tmp_path, tiny.tapas, "table-question-answering")
    table = rows_of_json({"good": [1, 2]}, name="table")
    (row,) = ask(model, table, texts("good", name="query"))
    assert set(row["cells"]) <= {"1", "2"}


def test_one_image_serves_several_questions(tmp_path):
    model = load(tmp_path, tiny.layoutlm, "document-question-answering")
    picture = packed(image.to_text(RED).encode(), name="image", kind="pillow_image")
    boxes = rows_of_json([["good", [0, 0, 9, 9]]], name="word_boxes")
    assert len(ask(model, picture, texts("good", "bad", name="question"), boxes)) == 2


@pytest.mark.parametrize(
    ("save", "task", "tensors", "complaint"),
    [
        pytest.param(
            tiny.layoutlm,
            "document-question-answering",
            [texts("good", "bad", name="question"), texts("a", "b", "c", name="word_boxes")],
            "'question': expected 1 or 3 elements, got 2",
            id="uneven columns",
        ),
        pytest.param(
            tiny.superglue,
            "keypoint-matching",
            [packed(image.to_text(RED).encode(), kind="pillow_image")],
            r"'args': expected pairs of images, shape \[-1, 2\], got \[1\]",
            id="no pair",
        ),
        pytest.param(
            tiny.llama,
            "decision",
            [rows_of_json({"state": "x"})],
            "the task 'decision' cannot take the input.*ValueError was raised",
            id="no questions",
        ),
        pytest.param(
            tiny.tapas,
            "table-question-answering",
            [rows_of_json({"table": {"good": ["Yes"]}})],
            "the task 'table-question-answering' cannot take the input",
            id="no query",
        ),
        pytest.param(
            tiny.clip,
            "zero-shot-image-classification",
            [packed(image.to_text(RED).encode(), kind="pillow_image")],
            "the task 'zero-shot-image-classification' lacks an input",
            id="no labels",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_the_callers_fault(save, task, tensors, complaint, tmp_path):
    model = load(tmp_path, save, task)
    with pytest.raises(InvalidInput, match=complaint):
        ask(model, *tensors)


def test_the_value_of_an_option_is_the_callers_fault(tmp_path):
    model = load(tmp_path, tiny.vit, "image-classification")
    picture = packed(image.to_text(RED).encode(), kind="pillow_image")
    with pytest.raises(
        InvalidInput, match="the value of an option .'function_to_apply'."
    ) as raised:
        ask(model, picture, function_to_apply="secret")
    assert "secret" not in raised.value.message


def test_labels_may_be_one_text(tmp_path):
    model = load(tmp_path, tiny.clip, "zero-shot-image-classification")
    picture = packed(image.to_text(RED).encode(), kind="pillow_image")
    (row,) = ask(model, picture, candidate_labels="good, bad")
    assert sorted(found["label"] for found in row) == ["bad", "good"]


def test_a_video_is_a_file_of_a_type_that_names_no_others(tmp_path):
    pytest.importorskip("av")
    model = load(tmp_path, tiny.videomae, "video-classification")
    playlist = base64.b64encode(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    for sent in (packed(playlist, kind="base64"), texts("concat:/etc/passwd")):
        with pytest.raises(InvalidInput, match="expected the data itself, a video file"):
            ask(model, sent)


@pytest.mark.parametrize(
    ("save", "task", "package"),
    [
        (tiny.sam, "mask-generation", "torchvision"),
        (tiny.llava, "any-to-any", "torchvision"),
        (tiny.videomae, "video-classification", "av"),
    ],
)
def test_a_task_whose_package_is_missing_says_which(save, task, package, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == package else find(name, *rest),
    )
    with pytest.raises(MissingDependency, match=f"'{task}' needs {package}.*pip install {package}"):
        load(tmp_path, save, task)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("summarization", "dropped it: pip install 'transformers<5'"),
        ("translation_en_to_fr", "dropped it"),
        ("text-clasification", "which has 'any-to-any', 'audio-classification'.*'decision'"),
        ("", "parameters.extra.task is missing"),
    ],
)
def test_a_task_that_is_not_there_says_why(task, reason, tmp_path):
    with pytest.raises(LoadFailed, match=reason):
        load(tmp_path, tiny.bert, task)

"""Every task of Transformers: the runtime answers like the pipeline called directly."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("torch")

from PIL import Image
from transformers import pipeline as make_pipeline
from transformers.pipelines import SUPPORTED_TASKS

from headrace.codecs import image
from headrace.codecs.array import tensor_of
from headrace.codecs.huggingface_content import encode_rows
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings
from support import tiny_transformers as tiny

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.filterwarnings("default:::transformers"),
    pytest.mark.filterwarnings("ignore:.*SWIG.*:DeprecationWarning"),
    # The sounds here are too short and the model too small for good filters.
    pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning"),
]

RANDOM = np.random.default_rng(0)
RED = Image.new("RGB", (8, 8), "red")
NOISE = Image.fromarray(RANDOM.integers(0, 255, (8, 8, 3), np.uint8))
WIDE = Image.fromarray(RANDOM.integers(0, 255, (32, 64, 3), np.uint8))
SQUARE = Image.fromarray(RANDOM.integers(0, 255, (32, 32, 3), np.uint8))
SOUNDS = [RANDOM.standard_normal(size).astype(np.float32) for size in (400, 300)]
PHRASES = ["good wine", "this is very bad"]
LABELS = {"candidate_labels": ["good", "very bad", "wine"], "hypothesis_template": "{} [SEP]"}
WORD_BOXES = [["good", [0, 0, 10, 10]], ["wine", [10, 0, 20, 10]]]
TABLE = {"good": ["Yes", "No"], "bad": ["is", "this"]}
SPAM = {"type": "noul", "instructions": "is this good"}


def film(color):
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 16, 16
        for _ in range(8):
            frame = av.VideoFrame.from_image(Image.new("RGB", (16, 16), color))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


class Case(NamedTuple):
    """A task, the model for it, and two rows: one value each, or columns of them."""

    task: str
    save: Callable[..., None]
    rows: Any
    options: dict[str, Any] = {}


def named(kind):
    return partial(tiny.bert, kind=kind)


def needing(package, case):
    missing = find_spec(package) is None
    return pytest.param(case, marks=pytest.mark.skipif(missing, reason=f"needs {package}"))


THIN = {
    "points_per_batch": 8,
    "points_per_crop": 2,
    "pred_iou_thresh": -9,
    "mask_threshold": -1,
    "stability_score_thresh": -9,
}
CASES = [
    Case("text-classification", tiny.bert, PHRASES),
    Case("token-classification", named("ForTokenClassification"), PHRASES),
    Case("fill-mask", named("ForMaskedLM"), ["[MASK] wine", "this [MASK]"]),
    Case("feature-extraction", named("Model"), PHRASES),
    Case("text-generation", tiny.llama, PHRASES, {"max_new_tokens": 3, "do_sample": False}),
    Case("zero-shot-classification", partial(tiny.bert, **tiny.LABELS), PHRASES, LABELS),
    Case("automatic-speech-recognition", tiny.wav2vec2, SOUNDS),
    Case(
        "audio-classification",
        partial(tiny.wav2vec2, kind="ForSequenceClassification", num_labels=3),
        SOUNDS,
    ),
    Case("zero-shot-audio-classification", tiny.clap, SOUNDS, LABELS),
    Case("text-to-audio", tiny.vits, ["a b", "b"]),
    Case("image-classification", tiny.vit, [RED, NOISE]),
    Case("image-feature-extraction", partial(tiny.vit, kind="Model"), [RED, NOISE]),
    Case("object-detection", tiny.yolos, [WIDE, SQUARE], {"threshold": 0.1}),
    Case("image-segmentation", tiny.segformer, [RED, NOISE]),
    Case("depth-estimation", tiny.glpn, [WIDE, SQUARE]),
    Case("zero-shot-image-classification", tiny.clip, [RED, NOISE], LABELS),
    Case(
        "zero-shot-object-detection",
        tiny.owlvit,
        [NOISE, SQUARE],
        {"candidate_labels": LABELS["candidate_labels"], "threshold": 0.0},
    ),
    Case("keypoint-matching", tiny.superglue, [[WIDE, SQUARE], [SQUARE, SQUARE]]),
    Case(
        "document-question-answering",
        tiny.layoutlm,
        {"image": [RED, NOISE], "question": PHRASES, "word_boxes": [WORD_BOXES, WORD_BOXES[::-1]]},
    ),
    Case("table-question-answering", tiny.tapas, {"table": [TABLE, TABLE], "query": PHRASES}),
    Case(
        "image-text-to-text",
        tiny.llava,
        {"images": [RED, NOISE], "text": ["<image> good", "<image> very bad"]},
        {"max_new_tokens": 3},
    ),
    Case("decision", tiny.llama, [{"state": text, "questions": {"a": SPAM}} for text in PHRASES]),
    needing("torchvision", Case("mask-generation", tiny.sam, [WIDE, SQUARE], THIN)),
    needing(
        "torchvision",
        Case(
            "any-to-any",
            tiny.llava,
            {"images": [RED, NOISE], "text": ["<image> good", "<image> very bad"]},
            {"max_new_tokens": 3},
        ),
    ),
    # If torchvision is installed, Transformers reads videos only with torchcodec.
    needing(
        "torchcodec" if find_spec("torchvision") else "av",
        Case("video-classification", tiny.videomae, ["red", "blue"]),
    ),
]


def task_of(case):
    return (case.values[0] if hasattr(case, "values") else case).task


every_task = pytest.mark.parametrize("case", CASES, ids=task_of)


def load(case, folder, size=None):
    case.save(folder)
    extra = {"task": case.task, "device": "cpu"}
    model = create(
        ModelSettings("m", "huggingface", uri=str(folder), extra=extra, max_batch_size=size)
    )
    model.load()
    return model


def packed(name, values, content_type, shape=None):
    parameters = {"content_type": content_type}
    return Tensor(name, "BYTES", shape or [len(values)], pack_bytes(values), parameters)


def tensor(name, values):
    """Values as a client sends them."""
    if isinstance(values[0], str):
        return packed(name, [value.encode() for value in values], "str")
    if isinstance(values[0], Image.Image):
        return packed(name, [image.to_text(value).encode() for value in values], "pillow_image")
    if isinstance(values[0], list) and isinstance(values[0][0], Image.Image):
        files = [image.to_text(value).encode() for pair in values for value in pair]
        return packed(name, files, "pillow_image", [len(values), 2])
    if isinstance(values[0], np.ndarray) and len({value.shape for value in values}) == 1:
        return tensor_of(name, np.stack(values))
    if isinstance(values[0], np.ndarray):
        values = [{"array": value.tolist(), "sampling_rate": 16000} for value in values]
    return packed(name, [json.dumps(value).encode() for value in values], "hg_jsonlist")


def ask(model, case, start=0, stop=2):
    columns = case.rows if isinstance(case.rows, dict) else {"args": case.rows}
    if case.task == "video-classification":
        films = [base64.b64encode(film(color)) for color in case.rows[start:stop]]
        tensors = [packed("args", films, "base64")]
    else:
        tensors = [tensor(name, values[start:stop]) for name, values in columns.items()]
    options = dict(case.options)
    if "candidate_labels" in options:
        tensors.append(tensor("candidate_labels", options.pop("candidate_labels")))
    (output,) = model.infer(InferenceRequest(tensors, options or None)).outputs
    return rows_in(output)


def rows_in(output):
    """The rows, with numbers rounded to the digits that no order of adding in float32 changes."""
    return [
        json.loads(text, parse_float=lambda number: round(float(number), 4))
        for text in unpack_bytes(output.data, output.shape[0], "output")
    ]


def directly(case, folder):
    pipeline = make_pipeline(case.task, model=str(folder), device="cpu")
    rows = case.rows
    if isinstance(rows, dict):
        rows = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    if case.task == "video-classification":
        for color in rows:
            (folder / color).write_bytes(film(color))
        rows = [str(folder / color) for color in rows]
    if case.task == "text-classification":
        # The answer to a lone text is a list of one.
        return rows_in(encode_rows(pipeline(rows), "output"))
    found = [pipeline(row, **case.options) for row in rows]
    if case.task == "mask-generation":
        for row in found:
            masks = [np.asarray(mask, np.uint8) * 255 for mask in row["masks"]]
            row["masks"] = [Image.fromarray(mask) for mask in masks]
    return rows_in(encode_rows(found, "output"))


def test_every_task_of_this_version_is_in_the_table():
    assert {task_of(case) for case in CASES} == set(SUPPORTED_TASKS)


@every_task
def test_a_task_answers_like_its_pipeline_called_directly(case, tmp_path):
    model = load(case, tmp_path)
    answers = ask(model, case)
    assert all(answers)
    assert answers == directly(case, tmp_path)


@every_task
def test_rows_together_answer_as_each_alone(case, tmp_path):
    model = load(case, tmp_path, size=4)
    assert ask(model, case) == ask(model, case, 0, 1) + ask(model, case, 1, 2)


@every_task
def test_metadata_names_the_inputs_of_the_task(case, tmp_path):
    metadata = load(case, tmp_path).metadata()
    names = list(case.rows) if isinstance(case.rows, dict) else ["args", "array_inputs"]
    assert metadata.inputs[0].name in names
    assert metadata.parameters["task"] == case.task

"""Plugins as models: what they get, and what their answers become."""

from __future__ import annotations

import asyncio
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from headrace.errors import (
    BadModelOutput,
    InvalidInput,
    LoadFailed,
    ModelFailed,
    UnsupportedMedia,
)
from headrace.plugins import BasePlugin
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes
from headrace.runtimes import create
from headrace.runtimes.plugin.plugin_runtime import PluginRuntime
from headrace.settings import ModelSettings
from support.plugins import source


class Upper(BasePlugin):
    def load_model(self, model_uri):
        return model_uri

    def request_content_type(self):
        return "text/plain"

    def predict(self, model, data):
        return data.decode().upper()


def loaded(plugin, tmp_path):
    model = PluginRuntime.of(plugin, ModelSettings("m", "x:Plugin", uri=str(tmp_path)))
    done = model.load()
    if done is not None:
        asyncio.run(done)
    return model


def request(*payloads, outputs=None, **parameters):
    tensor = Tensor("any", "BYTES", [len(payloads)], pack_bytes(payloads), parameters)
    return InferenceRequest([tensor], outputs=outputs)


def rows(response):
    """Each answer with its media type."""
    answers, types = (unpack_bytes(t.data, t.shape[0]) for t in response.outputs)
    return list(zip(answers, map(bytes.decode, types), strict=True))


def answering(answer, media_type=None):
    """A plugin that gives this answer to every request."""
    members = {"predict": lambda self, model, data: answer}
    if media_type is not None:
        members["response_content_type"] = lambda self: media_type
    return type("Answering", (Upper,), members)


def answer_of(plugin, tmp_path):
    [row] = rows(loaded(plugin, tmp_path).infer(request(b"x")))
    return row


@pytest.mark.parametrize(
    ("answer", "body", "media_type"),
    [
        pytest.param("a word", b"a word", "text/plain; charset=utf-8", id="text"),
        pytest.param("12", b"12", "text/plain; charset=utf-8", id="text of digits"),
        pytest.param("[noise]", b"[noise]", "text/plain; charset=utf-8", id="text in brackets"),
        pytest.param('{"a": [1]}', b'{"a": [1]}', "application/json", id="text of JSON"),
        pytest.param("[NaN]", b"[NaN]", "text/plain; charset=utf-8", id="text of almost JSON"),
        pytest.param(b"\x00\xff", b"\x00\xff", "application/octet-stream", id="bytes"),
        pytest.param(bytearray(b"a"), b"a", "application/octet-stream", id="bytearray"),
        pytest.param({"a": 1}, b'{"a":1}', "application/json", id="dict"),
        pytest.param([1, float("nan")], b"[1,null]", "application/json", id="list with NaN"),
        pytest.param(5.5, b"5.5", "application/json", id="number"),
        pytest.param(np.float32(0.5), b"0.5", "application/json", id="numpy number"),
        pytest.param(np.eye(2), b"[[1.0,0.0],[0.0,1.0]]", "application/json", id="array"),
        pytest.param(
            np.array([1500, "NaT"], "m8[ms]"), b"[1.5,null]", "application/json", id="durations"
        ),
        pytest.param(np.timedelta64(5, "ns"), b"5e-09", "application/json", id="duration"),
        pytest.param(np.longdouble(0.5), b"0.5", "application/json", id="long double"),
        pytest.param(np.ones(1, "g"), b"[1.0]", "application/json", id="long doubles"),
        pytest.param(
            {np.int64(3): np.nan}, b'{"3":null}', "application/json", id="dict with numpy keys"
        ),
        pytest.param(
            pd.DataFrame({"a": [1], "b": ["c"]}),
            b'[{"a":1,"b":"c"}]',
            "application/json",
            id="table",
        ),
    ],
)
def test_the_type_of_an_answer_decides_how_it_is_sent(answer, body, media_type, tmp_path):
    assert answer_of(answering(answer), tmp_path) == (body, media_type)


@pytest.mark.parametrize("answer", ["<p>", b"<p>"])
def test_the_type_a_plugin_declares_is_sent_with_what_it_returns(answer, tmp_path):
    plugin = answering(answer, "text/html; charset=utf-8")

    assert answer_of(plugin, tmp_path) == (b"<p>", "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("media_type", "begins"),
    [(None, b"\x89PNG"), ("image/png", b"\x89PNG"), ("image/jpeg", b"\xff\xd8\xff")],
)
def test_an_image_is_written_as_what_is_declared_or_as_png(media_type, begins, tmp_path):
    body, sent = answer_of(answering(Image.new("RGB", (2, 2)), media_type), tmp_path)

    assert body.startswith(begins)
    assert sent == (media_type or "image/png")


@pytest.mark.parametrize(
    ("answer", "media_type", "words"),
    [
        pytest.param(None, None, "returned None", id="nothing"),
        pytest.param(object(), None, "returned object", id="object"),
        pytest.param({"a": object()}, None, "returned dict: object has", id="object inside"),
        pytest.param(
            pd.DataFrame([[1, 2]], columns=["a", "a"]), None, "same name", id="equal columns"
        ),
        pytest.param("\ud800", None, "UTF-8", id="half a character"),
        pytest.param(Image.new("RGB", (1, 1)), "text/csv", "as text/csv", id="image as a table"),
        pytest.param(Image.new("RGBA", (1, 1)), "image/jpeg", "mode RGBA", id="image mode"),
    ],
)
def test_an_answer_that_cannot_be_sent_is_named_by_its_type(answer, media_type, words, tmp_path):
    with pytest.raises(BadModelOutput, match=words):
        answer_of(answering(answer, media_type), tmp_path)


def test_each_payload_of_a_request_gets_its_answer(tmp_path):
    response = loaded(Upper, tmp_path).infer(request(b"a", b"b"))

    assert [answer for answer, _ in rows(response)] == [b"A", b"B"]


def test_only_the_requested_outputs_are_returned(tmp_path):
    response = loaded(Upper, tmp_path).infer(request(b"a", outputs=["answer"]))

    assert [tensor.name for tensor in response.outputs] == ["answer"]


def test_coroutines_are_awaited(tmp_path):
    class Later(Upper):
        async def load_model(self, model_uri):
            return "!"

        async def predict(self, model, data):
            await asyncio.sleep(0)
            return data + model.encode()

    response = asyncio.run(loaded(Later, tmp_path).infer(request(b"a", b"b")))

    assert [answer for answer, _ in rows(response)] == [b"a!", b"b!"]


class Batching(Upper):
    def predict_batch(self, model, data):
        return [f"{payload.decode()} of {len(data)}" for payload in data]


def test_a_plugin_that_declares_batches_gets_them(tmp_path):
    model = loaded(Batching, tmp_path)

    assert model.metadata().row_independent
    assert [answer for answer, _ in rows(model.infer(request(b"a", b"b")))] == [
        b"a of 2",
        b"b of 2",
    ]


def test_a_plugin_without_batches_is_not_batched(tmp_path):
    assert not loaded(Upper, tmp_path).metadata().row_independent


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["a"], "returned 1 answers for 2 payloads"),
        (["a"] * 3, "returned 3 answers for 2 payloads"),
        ({"a": 1}, "returned dict, expected a list"),
        ("ab", "returned str, expected a list"),
        (np.array(3), "returned ndarray, expected a list"),
    ],
)
def test_a_batch_that_is_not_a_list_of_the_same_length_is_bad_output(answers, words, tmp_path):
    plugin = type("Bad", (Upper,), {"predict_batch": lambda self, model, data: answers})

    with pytest.raises(BadModelOutput, match=words):
        loaded(plugin, tmp_path).infer(request(b"a", b"b"))


def test_a_plugin_may_empty_its_batch(tmp_path):
    def predict_batch(self, model, data):
        return [data.pop(0) for _ in range(2)]

    plugin = type("Taking", (Upper,), {"predict_batch": predict_batch})

    answers = rows(loaded(plugin, tmp_path).infer(request(b"a", b"b")))
    assert [answer for answer, _ in answers] == [b"a", b"b"]


def test_answers_have_the_shape_of_the_payloads(tmp_path):
    table = Tensor("any", "BYTES", [2, 3], pack_bytes([b"a"] * 6))

    response = loaded(Upper, tmp_path).infer(InferenceRequest([table]))
    assert [output.shape for output in response.outputs] == [[2, 3], [2, 3]]


def test_one_bad_answer_of_several_fails_the_batch_so_that_it_runs_again_one_by_one(tmp_path):
    plugin = type("Bad", (Upper,), {"predict_batch": lambda self, model, data: ["a", None]})

    with pytest.raises(ModelFailed, match="returned None"):
        loaded(plugin, tmp_path).infer(request(b"a", b"b"))


@pytest.mark.parametrize(
    ("predict", "data", "words"),
    [
        (lambda self, model, data: json.loads(data), b"{", "not JSON"),
        (lambda self, model, data: json.loads(data.decode()), b"{", "not JSON"),
        (lambda self, model, data: data.decode(), b"\xff", "not UTF-8 text"),
        (lambda self, model, data: Image.open(io.BytesIO(data)), b"GIF?", "not an image"),
    ],
)
def test_a_payload_that_the_plugin_cannot_read_is_the_callers_fault(predict, data, words, tmp_path):
    plugin = type("Reading", (Upper,), {"predict": predict})

    with pytest.raises(InvalidInput, match=words):
        loaded(plugin, tmp_path).infer(request(data))


@pytest.mark.parametrize("payload", [b"{", b"\xff", b"[" * 100_000])
def test_a_payload_that_is_not_the_json_a_plugin_takes_is_the_callers_fault(payload, tmp_path):
    members = {
        "request_content_type": lambda self: "application/json; charset=utf-8",
        "predict": lambda self, model, data: pd.read_json(io.BytesIO(data), orient="split"),
    }
    model = loaded(type("Pandas", (Upper,), members), tmp_path)

    with pytest.raises(InvalidInput, match="not JSON|not UTF-8"):
        model.infer(request(payload))
    with pytest.raises((AttributeError, TypeError)):
        model.infer(request(b"[1]"))


def test_an_image_that_was_cut_short_is_the_callers_fault(tmp_path):
    picture = io.BytesIO()
    Image.effect_noise((50, 50), 100).save(picture, "PNG")
    predict = {"predict": lambda self, model, data: Image.open(io.BytesIO(data)).size[0] / 0}
    reading = {"predict": lambda self, model, data: Image.open(io.BytesIO(data)).convert("L")}

    with pytest.raises(InvalidInput, match="not a whole image"):
        loaded(type("Reading", (Upper,), reading), tmp_path).infer(
            request(picture.getvalue()[:900])
        )
    with pytest.raises(ZeroDivisionError):
        loaded(type("Failing", (Upper,), predict), tmp_path).infer(request(picture.getvalue()))


def picture(form, width=50, height=50):
    buffer = io.BytesIO()
    Image.new("1" if form == "PNG" else "L", (width, height)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(picture("JPEG")[:15], id="JPEG"),
        pytest.param(picture("WEBP")[:20] + bytes(60), id="WebP"),
        pytest.param(picture("BMP")[:14] + b"\xff" * 60, id="BMP"),
        pytest.param(picture("PNG", 20_000, 20_000), id="more pixels than Pillow reads"),
    ],
)
def test_an_image_with_a_damaged_header_is_the_callers_fault(payload, tmp_path):
    reading = {"predict": lambda self, model, data: Image.open(io.BytesIO(data)).convert("L")}

    with pytest.raises(InvalidInput, match="not a whole image"):
        loaded(type("Reading", (Upper,), reading), tmp_path).infer(request(payload))


def test_what_a_plugin_says_about_a_payload_takes_precedence(tmp_path):
    def predict(self, model, data):
        raise InvalidInput("its own words")

    members = {"request_content_type": lambda self: "application/json", "predict": predict}

    with pytest.raises(InvalidInput, match="its own words"):
        loaded(type("Saying", (Upper,), members), tmp_path).infer(request(b"{"))


def test_other_json_that_a_plugin_fails_to_read_is_its_own_fault(tmp_path):
    plugin = type("Own", (Upper,), {"predict": lambda self, model, data: json.loads("{")})

    with pytest.raises(json.JSONDecodeError):
        loaded(plugin, tmp_path).infer(request(b"[1]"))


def test_base64_is_decoded_when_the_input_says_so(tmp_path):
    [(answer, _)] = rows(loaded(Upper, tmp_path).infer(request(b"YQ==", content_type="base64")))

    assert answer == b"A"


@pytest.mark.parametrize(
    ("sent", "error", "words"),
    [
        pytest.param(
            request(b"a", content_type="image/png"), UnsupportedMedia, "text/plain", id="type"
        ),
        pytest.param(request(b"a", b""), InvalidInput, "payload 1 is empty", id="empty payload"),
        pytest.param(request(), InvalidInput, "at least one payload", id="no payload"),
        pytest.param(request(b"a", outputs=["x"]), InvalidInput, "output 'x'", id="output"),
        pytest.param(InferenceRequest([]), InvalidInput, "one BYTES input", id="no input"),
        pytest.param(
            InferenceRequest([Tensor("x", "FP64", [1], bytes(8))]), InvalidInput, "BYTES", id="FP64"
        ),
    ],
)
def test_a_request_without_valid_payloads_is_refused(sent, error, words, tmp_path):
    with pytest.raises(error, match=words):
        loaded(Upper, tmp_path).infer(sent)


def test_every_missing_method_is_named(tmp_path):
    half = type("Half", (BasePlugin,), {"predict": Upper.predict})

    with pytest.raises(LoadFailed, match="does not define load_model and request_content_type"):
        loaded(half, tmp_path)


def test_every_missing_method_of_a_class_that_extends_nothing_is_named(tmp_path):
    (tmp_path / "plugin.py").write_text("class Plugin:\n    def load_model(self, uri): pass")

    with pytest.raises(LoadFailed, match="does not define predict and request_content_type"):
        create(ModelSettings("m", "plugin.Plugin", folder=str(tmp_path)))


@pytest.mark.parametrize("media_type", ["json", None, "a/b\r\nx: y"])
def test_an_invalid_media_type_fails_the_load(media_type, tmp_path):
    plugin = type("Odd", (Upper,), {"request_content_type": lambda self: media_type})

    with pytest.raises(LoadFailed, match=r"request_content_type\(\) of the plugin returned"):
        loaded(plugin, tmp_path)


def test_a_media_type_that_is_not_a_method_fails_the_load(tmp_path):
    plugin = type("Plain", (Upper,), {"response_content_type": "text/csv"})

    with pytest.raises(LoadFailed, match="response_content_type of the plugin is str"):
        loaded(plugin, tmp_path)


def test_a_missing_model_fails_the_load(tmp_path):
    with pytest.raises(LoadFailed, match="there is nothing at its uri"):
        loaded(Upper, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "implementation", ["mine.Plugin", "mine:Plugin", "mine.py:Plugin", "inner/deep.py:Plugin"]
)
def test_a_plugin_is_named_by_module_or_by_file(implementation, tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "mine.py").write_text("import helper\n" + source())
    (tmp_path / "inner/deep.py").write_text(source())

    made = create(ModelSettings("m", implementation, folder=str(tmp_path), uri=str(tmp_path)))

    made.load()
    assert rows(made.infer(request(b"a")))[0][0] == b"A"


def test_a_missing_file_fails_the_load(tmp_path):
    with pytest.raises(LoadFailed, match="there is no such file"):
        create(ModelSettings("m", "mine.py:Plugin", folder=str(tmp_path)))


@pytest.mark.parametrize("file", ["json.py", "numpy.py", "mine.v2.py"])
def test_a_file_that_no_import_would_find_fails_the_load(file, tmp_path):
    (tmp_path / file).write_text(source())

    with pytest.raises(LoadFailed, match="rename it"):
        create(ModelSettings("m", f"{file}:Plugin", folder=str(tmp_path)))


OLD = """
from mlflow_pluggable_scoring_server.plugin import BasePlugin

class Plugin(BasePlugin):
    def load_model(self, model_uri):
        return "old"
    def predict(self, model, data):
        return model
    def request_content_type(self):
        return "text/plain"
"""
OLD_BASE = """
from abc import ABCMeta, abstractmethod

class BasePlugin(metaclass=ABCMeta):
    @abstractmethod
    def load_model(self, model_uri):
        pass
"""


@pytest.mark.parametrize("installed", [False, True])
def test_a_plugin_of_the_older_server_is_served_unedited(installed, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("mlflow_pluggable")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "plugin.py").write_text(OLD)
    if installed:
        package = tmp_path / "mlflow_pluggable_scoring_server"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "plugin.py").write_text(OLD_BASE)

    made = create(ModelSettings("m", "plugin.Plugin", folder=str(tmp_path), uri=str(tmp_path)))

    made.load()
    assert rows(made.infer(request(b"a")))[0][0] == b"old"
    for name in [name for name in sys.modules if name.startswith("mlflow_pluggable")]:
        monkeypatch.delitem(sys.modules, name)

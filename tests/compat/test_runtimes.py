"""Sources written for MLServer, unedited, in the worker's own host."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pandas as pd
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.compat.mlserver.codecs import PandasCodec
from headrace.errors import (
    BadModelOutput,
    InvalidInput,
    ModelFailed,
    NotFound,
    Overloaded,
    RateLimited,
)
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes
from headrace.runtimes import create
from headrace.worker.host import ModelHost
from support import mlserver_sources as sources


def texts(name, *values, **parameters):
    packed = pack_bytes([value.encode() for value in values])
    return Tensor(name, "BYTES", [len(values)], packed, parameters or None)


@pytest.fixture
def load(tmp_path):
    """Loads a source; returns its metadata and a function that calls it."""
    host = ModelHost()

    def loaded(source, **settings):
        folder = sources.write(tmp_path / "m", source)
        metadata = host.load("m", sources.settings_of(folder, **settings))
        return metadata, lambda *inputs, **more: host.infer(
            "m", InferenceRequest(list(inputs), **more)
        )

    yield loaded
    host.unload("m")


def created(folder, source, **settings):
    """A model that is not loaded yet."""
    return create(sources.settings_of(sources.write(folder, source), **settings))


def predict(body):
    return (
        "from mlserver import MLModel, types\nfrom mlserver.codecs import *\n"
        "from mlserver.errors import *\n"
        f"class Runtime(MLModel):\n    async def predict(self, payload):\n        {body}\n"
    )


def answer(outputs):
    return predict(f"return types.InferenceResponse(model_name='m', outputs={outputs})")


def test_arrays_are_decoded_and_encoded(load):
    _, infer = load(sources.SUM, extra={"scale": 10})
    inputs = [tensor_of(name, np.arange(3.0)) for name in "ab"]

    (output,) = infer(*inputs).outputs

    assert (output.name, output.datatype, output.shape) == ("total", "FP64", [3, 1])
    assert array_of(output).ravel().tolist() == [0, 20, 40]


def test_decode_args_finds_codecs_by_annotation(load):
    _, infer = load(sources.UPPER)

    (output,) = infer(texts("text", "straße", "é")).outputs

    assert (output.name, output.parameters) == ("output-0", {"content_type": "str"})
    assert array_of(output).ravel().tolist() == ["STRASSE", "É"]


def test_decode_args_takes_several_results_annotated_as_a_bare_tuple(load):
    _, infer = load(
        "import numpy as np, pandas as pd\nfrom mlserver import MLModel\n"
        "from mlserver.codecs import decode_args\n"
        "class Runtime(MLModel):\n    @decode_args\n"
        "    async def predict(self, x: np.ndarray) -> (np.ndarray, pd.DataFrame):\n"
        "        return x, pd.DataFrame({'a': [1]})\n"
    )

    found = infer(tensor_of("x", np.ones(2))).outputs
    assert [(output.name, output.shape) for output in found] == [
        ("output-0", [2, 1]),
        ("a", [1, 1]),
    ]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        pytest.param(["x"], "'x' was not found. Available inputs are 'text'", id="unknown"),
        pytest.param([], "missing input 'text', got none", id="none"),
    ],
)
def test_decode_args_takes_exactly_its_inputs(load, inputs, message):
    _, infer = load(sources.UPPER)

    with pytest.raises(InvalidInput, match=message):
        infer(*(texts(name, "a") for name in inputs))


def test_an_artefact_is_found_next_to_the_settings(load, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.dat").write_text(json.dumps({"good": 0.5}))
    _, infer = load(sources.TEXT_FILE)

    (output,) = infer(texts("t", "good", "bad")).outputs

    assert array_of(output).tolist() == [0.5, 0.0]
    assert output.parameters == {"content_type": "np", "source": "words"}


def test_a_missing_artefact_fails_the_load(tmp_path):
    model = created(tmp_path / "m", sources.TEXT_FILE, uri=str(tmp_path / "nowhere"))

    with pytest.raises(Exception, match="Invalid URI specified for model m"):
        asyncio.run(model.load())


def test_json_in_and_out(load):
    _, infer = load(sources.JSON_RUNTIME)

    (output,) = infer(texts("q", '{"a": "ü"}')).outputs

    assert json.loads(array_of(output)[0]) == {"request": {"q": {"a": "ü"}}, "answer": 42}


def test_raw_data_is_a_list_of_numbers(load):
    _, infer = load(sources.RAW)

    response = infer(tensor_of("x", np.array([1, 2])))

    assert response.parameters == {"first": "1"}
    assert array_of(response.outputs[0]).tolist() == [2, 3]


def test_a_frame_comes_and_goes(load):
    _, infer = load(sources.FRAME)
    columns = [tensor_of("a", np.array([1, 2])), tensor_of("b", np.array([0.5, 1.5]))]

    response = infer(*columns, texts("name", "x", "y", content_type="str"))

    assert response.parameters == {"content_type": "pd"}
    assert [(o.name, o.datatype, o.shape) for o in response.outputs] == [
        ("name", "BYTES", [2, 1]),
        ("total", "FP64", [2, 1]),
    ]


@pytest.mark.parametrize(
    ("context", "kind"),
    [pytest.param({"bytes": True}, "bytes", id="grpc"), pytest.param({}, "str", id="rest")],
)
def test_a_text_column_without_a_content_type_has_its_cells_as_they_came(load, context, kind):
    _, infer = load(
        predict(
            "frame = self.decode_request(payload, default_codec=PandasCodec)\n"
            "        return self.encode_response([type(frame['a'][0]).__name__])"
        )
    )

    (output,) = infer(texts("a", "x", "y"), context=context).outputs
    assert array_of(output).ravel().tolist() == [kind]


@pytest.mark.parametrize(("use_bytes", "cells"), [(True, [b"x", b"y"]), (False, ["x", "y"])])
def test_text_of_a_frame_is_encoded_as_bytes_unless_text_is_asked_for(use_bytes, cells):
    frame = pd.DataFrame({"a": ["x", "y"]})

    answer = PandasCodec.encode_response("m", frame, use_bytes=use_bytes)
    assert list(answer.outputs[0].data) == cells
    request = PandasCodec.encode_request(frame, use_bytes=use_bytes)
    assert list(request.inputs[0].data) == cells


def test_the_content_type_of_the_request_chooses_the_codec(load):
    _, infer = load(predict("return self.encode_response(self.decode_request(payload) * 2)"))

    response = infer(tensor_of("x", np.ones(2)), parameters={"content_type": "np"})

    assert [output.name for output in response.outputs] == ["output-1"]
    assert array_of(response.outputs[0]).ravel().tolist() == [2.0, 2.0]


def test_declared_inputs_choose_codecs_and_are_the_metadata(load):
    row = {"name": "x", "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "str"}}
    source = predict("return self.encode_response([t * 2 for t in self.decode(payload.inputs[0])])")
    metadata, infer = load(source, inputs=[row])

    assert [(t.name, t.datatype, t.parameters) for t in metadata.inputs] == [
        ("x", "BYTES", {"content_type": "str"})
    ]
    assert array_of(infer(texts("x", "a")).outputs[0]).ravel().tolist() == ["aa"]


def test_a_codec_of_the_user_is_found_by_its_content_type(load):
    source = """
    from mlserver import MLModel
    from mlserver.codecs import InputCodec, NumpyCodec, register_input_codec
    import numpy as np

    @register_input_codec
    class Halves(InputCodec):
        ContentType = "halves"
        TypeHint = tuple

        @classmethod
        def decode_input(cls, request_input):
            return NumpyCodec.decode_input(request_input) / 2

    class Runtime(MLModel):
        async def predict(self, payload):
            return self.encode_response(self.decode(payload.inputs[0]))
    """
    _, infer = load(source)
    tensor = tensor_of("x", np.array([4.0]))
    tensor.parameters = {"content_type": "halves"}

    assert array_of(infer(tensor).outputs[0]).ravel().tolist() == [2.0]


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        pytest.param("InferenceError('no')", InvalidInput, "no", id="InferenceError"),
        pytest.param("MLServerError('gone', 404)", NotFound, "gone", id="404"),
        pytest.param("MLServerError('slower', 429)", RateLimited, "slower", id="429"),
        pytest.param("MLServerError('later', 503)", Overloaded, "later", id="503"),
        pytest.param("MLServerError('tea', 418)", InvalidInput, "tea", id="418"),
        pytest.param("MLServerError('secret', 500)", ModelFailed, "failed on this", id="500"),
        pytest.param("ValueError('secret')", ModelFailed, "failed on this", id="ValueError"),
        pytest.param("CodecError('bad')", InvalidInput, "payload: bad", id="CodecError"),
    ],
)
def test_the_status_of_an_error_decides_how_the_caller_is_answered(load, raised, error, message):
    _, infer = load(predict(f"raise {raised}"))

    with pytest.raises(error, match=message) as caught:
        infer()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        pytest.param(
            "[types.ResponseOutput(name='y', shape=[2], datatype='FP32', data=[1])]",
            "output 'y': shape \\[2\\] takes 2 elements, but data has 1",
            id="too few",
        ),
        pytest.param(
            "[types.ResponseOutput(name='y', shape=[1], datatype='INT32', data=[1.5])]",
            "output 'y': data has values that datatype INT32 cannot hold",
            id="half an integer",
        ),
        pytest.param(
            "[types.ResponseOutput(name='y', shape=[-1], datatype='INT32', data=[1])]",
            "shape\\[0\\] must be from 0",
            id="free dimension",
        ),
    ],
)
def test_an_answer_that_contradicts_itself_is_the_models_fault(load, outputs, message):
    _, infer = load(answer(outputs))

    with pytest.raises(BadModelOutput, match=message):
        infer()


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        pytest.param([6], "['grün!'.encode()]", id="bytes"),
        pytest.param([5], "['grün!']", id="characters"),
        pytest.param([8, 8], "'grün!'.encode()", id="no list"),
    ],
)
def test_a_lone_text_shaped_by_its_length_is_one_element(load, shape, data):
    output = f"types.ResponseOutput(name='y', shape={shape}, datatype='BYTES', data={data})"
    _, infer = load(answer(f"[{output}]"))

    (sent,) = infer().outputs

    assert (sent.shape, array_of(sent).tolist()) == ([1], ["grün!"])


def test_an_answer_of_another_type_names_the_expected_one(load):
    _, infer = load(predict("return {'a': 1}"))

    with pytest.raises(BadModelOutput, match="returned dict, expected mlserver.types"):
        infer()


@pytest.mark.parametrize(
    ("data", "datatype", "expected"),
    [
        pytest.param("[[1, 2], [3, 4]]", "INT64", [1, 2, 3, 4], id="nested"),
        pytest.param("np.arange(4)", "FP32", [0, 1, 2, 3], id="array"),
        pytest.param("['a', b'b', 'c', 'd']", "BYTES", list("abcd"), id="text and bytes"),
        pytest.param("[True, False, True, True]", "BOOL", [True, False, True, True], id="flags"),
    ],
)
def test_data_may_be_given_as_mlserver_takes_it(load, data, datatype, expected):
    source = answer(
        f"[types.ResponseOutput(name='y', shape=[2, 2], datatype='{datatype}', data={data})]"
    )
    _, infer = load("import numpy as np\n" + source)

    assert array_of(infer().outputs[0]).ravel().tolist() == expected


@pytest.mark.parametrize("dtype", ["object", "S3"])
def test_an_array_of_bytes_is_sent_as_it_is(load, dtype):
    array = f"__import__('numpy').array([b'\\xff\\x00a', b'b'], dtype='{dtype}')"
    _, infer = load(answer(f"[NumpyCodec.encode_output('y', {array})]"))

    (sent,) = infer().outputs

    assert (sent.shape, sent.parameters) == ([2, 1], {"content_type": "np"})
    assert unpack_bytes(sent.data, 2) == [b"\xff\x00a", b"b"]


def test_an_optional_result_may_be_none(load):
    _, infer = load(
        "from typing import *\nfrom mlserver import MLModel\nfrom mlserver.codecs import *\n"
        "class Runtime(MLModel):\n    @decode_args\n"
        "    async def predict(self, x: List[str]) -> Optional[List[str]]:\n        return None\n"
    )

    assert infer(texts("x", "a")).outputs == []


def test_a_missing_number_is_nan(load):
    _, infer = load(
        answer("[types.ResponseOutput(name='y', shape=[2], datatype='FP64', data=[1, None])]")
    )

    assert np.isnan(array_of(infer().outputs[0])).tolist() == [False, True]


def test_requested_outputs_reach_the_runtime(load):
    source = predict(
        "return types.InferenceResponse(model_name=self.name, outputs=["
        "self.encode(['v'], output) for output in payload.outputs])"
    )
    _, infer = load(source)

    assert [o.name for o in infer(outputs=["b", "a"]).outputs] == ["b", "a"]


def test_a_client_cannot_pretend_that_an_input_is_decoded(load):
    source = predict("return self.encode_response(self.decode(payload.inputs[0], NumpyCodec))")
    _, infer = load(source)
    tensor = tensor_of("x", np.array([1.0]))
    tensor.parameters = {"_decoded_payload": "evil", "model_dump": 1}

    assert array_of(infer(tensor).outputs[0]).ravel().tolist() == [1.0]


def test_a_parameter_of_the_wrong_type_is_the_callers_fault(load):
    _, infer = load(answer("[]"))

    with pytest.raises(InvalidInput, match="headers.*: expected a dict"):
        infer(parameters={"headers": 1})


@pytest.mark.parametrize(
    ("returned", "ready"),
    [
        pytest.param("False", False, id="False"),
        pytest.param("True", True, id="True"),
        pytest.param("None", True, id="nothing"),
    ],
)
def test_what_load_returns_is_whether_the_model_is_ready(tmp_path, returned, ready):
    source = answer("[]") + f"    async def load(self):\n        return {returned}\n"
    model = created(tmp_path / "m", source)

    assert asyncio.run(model.load()) is ready


def test_keys_that_only_the_runtime_knows_are_in_its_parameters(tmp_path):
    source = answer("[]") + (
        "    async def load(self):\n"
        "        assert self.settings.parameters.threshold == 3, self.settings\n"
        "        return True\n"
    )
    folder = sources.write(tmp_path / "m", source, parameters={"threshold": 3})

    assert asyncio.run(create(sources.settings_of(folder)).load()) is True


def test_a_stream_yields_one_answer_for_each_piece(tmp_path):
    folder = sources.write(tmp_path / "m", sources.STREAM)
    host = ModelHost()
    host.load("m", sources.settings_of(folder))

    pieces = list(host.stream("m", InferenceRequest([texts("x", "to be or")])))
    host.unload("m")

    assert [array_of(p.outputs[0]).ravel().tolist() for p in pieces] == [["to"], ["be"], ["or"]]

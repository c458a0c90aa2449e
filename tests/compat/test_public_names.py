"""Names that source written for MLServer imports besides its models and codecs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import numpy as np
import prometheus_client
import pydantic
import pytest

from headrace.compat.mlserver import MLModel, ModelSettings, Settings, metrics, types, utils
from headrace.compat.mlserver.codecs import NumpyRequestCodec
from headrace.compat.mlserver.codecs.json import encode_to_json_bytes
from headrace.compat.mlserver.handlers import custom_handler
from headrace.compat.mlserver.handlers.custom import CustomHandler, get_custom_handlers
from headrace.compat.mlserver.metrics.errors import MetricNotFound
from headrace.compat.mlserver.settings import CORSSettings, ModelParameters
from headrace.errors import BadModelOutput

ONE = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}


def test_a_message_is_read_from_a_file(tmp_path):
    (tmp_path / "request.json").write_text(json.dumps({"id": "7", "inputs": [ONE]}))

    read = types.InferenceRequest.parse_file(tmp_path / "request.json")
    assert (read.id, read.inputs[0].name) == ("7", "x")


def test_data_is_read_from_json():
    assert types.TensorData.parse_raw("[[1], [2]]").root == [[1], [2]]
    assert types.TensorData.model_validate(["a"]) == types.TensorData(["a"])


def test_an_index_of_the_repository_is_a_list_of_its_models():
    item = {"name": "m", "version": "v1", "state": "READY", "reason": ""}
    index = types.RepositoryIndexResponse.parse_raw(json.dumps([item]))

    assert [found.name for found in index] == ["m"]
    assert (len(index), index[0].state) == (1, types.State.READY.value)
    assert index.model_dump() == [item]


def test_a_bad_datatype_raises_the_error_of_pydantic_where_that_is_imported():
    with pytest.raises(pydantic.ValidationError, match="'FP64' or 'BYTES'") as caught:
        types.InferenceRequest.model_validate({"inputs": [{**ONE, "datatype": "FLOAT"}]})

    (found,) = caught.value.errors()
    assert (found["type"], found["loc"]) == ("enum", ("datatype",))


def test_a_bad_datatype_raises_an_error_of_value_without_pydantic():
    code = (
        "import sys\nfrom headrace.compat.mlserver import types\n"
        "try:\n    types.RequestOutput()\n"
        "except types.ValidationError as error:\n    print(error, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "RequestOutput: field 'name' is required False"


def test_settings_are_read_from_variables_of_any_case(monkeypatch):
    monkeypatch.setenv("mlserver_http_port", "5000")
    monkeypatch.setenv("MLSERVER_DEBUG", "false")
    monkeypatch.setenv("MLSERVER_EXTENSIONS", '["a"]')

    settings = Settings(grpc_port=1)
    assert (settings.http_port, settings.debug, settings.extensions) == (5000, False, ["a"])
    assert (settings.grpc_port, settings.metrics_endpoint) == (1, "/metrics")


def test_settings_are_read_from_a_file_of_variables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "# of the server\nMLSERVER_HTTP_PORT='9'\nMLSERVER_MAX_AGE=5\nMLSERVER_MODEL_URI=./m\n"
    )

    assert (Settings().http_port, CORSSettings().max_age, ModelParameters().uri) == (9, 5, "./m")
    assert Settings(_env_file=None).http_port == 8080


def test_a_text_that_is_neither_true_nor_false_is_no_flag():
    with pytest.raises(ValueError, match="expected true or false"):
        Settings(debug="maybe")


def test_the_implementation_of_a_model_is_its_class(tmp_path):
    (tmp_path / "a_runtime_of_its_own.py").write_text("class Runtime: pass")
    path = "a_runtime_of_its_own.Runtime"
    written = {"name": "m", "implementation": path}
    (tmp_path / "model-settings.json").write_text(json.dumps(written))
    before = sys.path[:]

    settings = ModelSettings.parse_file(str(tmp_path / "model-settings.json"))
    assert settings.implementation.__name__ == "Runtime"
    assert settings.implementation_ == settings.model_dump()["implementation"] == path
    assert sys.path == before
    assert ModelSettings(implementation=MLModel).implementation is MLModel


def test_headers_are_put_into_requests_and_taken_out_of_answers():
    request = types.InferenceRequest(inputs=[])
    answer = types.InferenceResponse(model_name="m", outputs=[])

    assert utils.insert_headers(request, {"a": "b"}).parameters.headers == {"a": "b"}
    assert utils.extract_headers(answer) is None
    answer.parameters = types.Parameters(headers={"x": "y"})
    assert utils.extract_headers(answer) == {"x": "y"}
    assert answer.parameters.headers is None


def test_the_custom_handlers_of_a_model_are_listed_with_their_routes():
    class Runtime(MLModel):
        @custom_handler(rest_path="/a")
        async def first(self): ...

    model = Runtime(ModelSettings(implementation=Runtime))
    assert get_custom_handlers(model) == [(CustomHandler("/a", "POST"), model.first)]


def test_the_registry_of_metrics_has_registered_histograms_and_the_users_own():
    mine = prometheus_client.Counter("of_my_own", "help", registry=metrics.REGISTRY)
    logged = metrics.register("of_the_model", "help")

    assert metrics.REGISTRY["of_my_own"] is mine
    assert metrics.REGISTRY["of_the_model"] is logged
    assert "of_nobody" not in metrics.REGISTRY
    with pytest.raises(MetricNotFound, match="of_nobody"):
        metrics.REGISTRY.get("of_nobody")


def test_metrics_in_the_registry_are_shown(tmp_path):
    code = (
        "import prometheus_client\nfrom headrace.compat.mlserver.metrics import REGISTRY\n"
        "prometheus_client.Counter('mine', 'help', registry=REGISTRY).inc()\n"
        "from headrace.worker import measured\n"
        "print([family['name'] for family in measured.families()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "'mine'" in done.stdout


def test_bytes_in_json_are_their_text():
    assert encode_to_json_bytes({"k": b"text", "n": [b"a", np.float32(1)]}) == (
        b'{"k":"text","n":["a",1.0]}'
    )
    with pytest.raises(BadModelOutput, match="not UTF-8"):
        encode_to_json_bytes({"k": b"\xff"})


def test_a_decoded_value_given_in_parameters_is_used_but_not_one_that_a_client_sends():
    given = types.Parameters(_decoded_payload=np.array([23]))
    sent = {"content_type": "np", "_decoded_payload": [23]}

    for parameters, decoded in ((given, [23]), (sent, [1])):
        request = types.InferenceRequest.model_validate({"inputs": [{**ONE, "parameters": sent}]})
        request.inputs[0].parameters = parameters
        assert NumpyRequestCodec.decode_request(request).tolist() == decoded


@pytest.mark.parametrize("name", ["codecs.utils.Codec", "metrics.context.log", "types.State"])
def test_further_names_are_where_mlserver_has_them(name):
    module, _, attribute = name.rpartition(".")

    assert hasattr(importlib.import_module(f"headrace.compat.mlserver.{module}"), attribute)

"""The fixtures of MLServer's tests, made with Headrace; the suite puts this file beside them.

Runs in the environment of those tests, with Headrace as `mlserver`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import types as python_types
import urllib.request
from pathlib import Path

import pytest

from headrace.compat import alias

alias.offer()
import mlserver  # noqa: E402
from mlserver import ModelSettings, Settings, types  # noqa: E402

MODELS = {
    "text_model": "tests.fixtures.TextModel",
    "text_stream_model": "tests.fixtures.TextStreamModel",
}
TESTS_PATH = os.path.dirname(__file__)
TESTDATA_PATH = os.path.join(TESTS_PATH, "testdata")
SOURCE = Path(os.environ["MLSERVER_SOURCE"])


def _lend(name: str) -> None:
    """Offer a module of theirs that clients use and that runs on our types."""
    module = python_types.ModuleType(f"mlserver.{name}")
    module.__path__ = [str(SOURCE / "mlserver" / name)]
    sys.modules[f"mlserver.{name}"] = module


# Their modules for clients, which run on our types.
_lend("grpc")
for _name in ("raw",):
    _spec = importlib.util.spec_from_file_location(
        f"mlserver.{_name}", SOURCE / "mlserver" / f"{_name}.py"
    )
    sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_spec.name])

# Private names that their test modules import; the tests of these do not apply.
PRIVATE = {
    "codecs.base": ["_CodecRegistry"],
    "codecs.decorator": ["_as_list"],
    "codecs.pandas": ["_to_response_output"],
    "handlers.custom": ["_CustomHandlerAttr"],
    "metrics.context": ["_get_labels_from_context"],
}


def _private(*_args, **_options):
    raise NotImplementedError("a private name of MLServer")


for _module, _names in PRIVATE.items():
    for _name in _names:
        setattr(importlib.import_module(f"mlserver.{_module}"), _name, _private)


class _NoRepository(python_types.ModuleType):
    DEFAULT_MODEL_SETTINGS_FILENAME = "model-settings.json"


sys.modules["mlserver.repository"] = _NoRepository("mlserver.repository")

_server = python_types.ModuleType("mlserver.server")
_server.MLServer = mlserver.MLServer = object
sys.modules["mlserver.server"] = _server

lazy = python_types.ModuleType("pytest_lazyfixture")
lazy.lazy_fixture = lambda name: name
sys.modules["pytest_lazyfixture"] = lazy


class Served:
    """A Headrace that serves the models of their fixtures."""

    def __init__(self, folder: Path, models: dict[str, dict], settings: dict) -> None:
        for name, written in models.items():
            (folder / name).mkdir()
            (folder / name / "model-settings.json").write_text(json.dumps(written))
        (folder / "settings.json").write_text(json.dumps(settings))
        ready, fd = os.pipe()
        flags = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
        root = str(Path(TESTS_PATH).parent)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "headrace", "serve", str(folder), *flags, "--ready-fd", str(fd)],
            pass_fds=[fd],
            env={**os.environ, "PYTHONPATH": root},
            stderr=(folder / "log").open("wb"),
            stdout=subprocess.DEVNULL,
        )
        os.close(fd)
        with os.fdopen(ready) as file:
            line = file.readline()
        if not line:
            raise RuntimeError((folder / "log").read_text()[-2000:])
        self.addresses = json.loads(line)
        self.folder = folder

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


STARTED = {}


@pytest.fixture(scope="session", autouse=True)
def _stopped():
    yield
    for server in STARTED.values():
        server.stop()


@pytest.fixture
def served(request, tmp_path_factory, settings, sum_model_settings, sum_model):
    """A server with the models that a test asks for; one that counts is started for one test."""
    with open(os.path.join(TESTDATA_PATH, "model-settings.json")) as file:
        models = {"sum-model": json.load(file)}
    asked = " ".join(request.fixturenames)
    if hasattr(request.node, "callspec"):
        asked += " ".join(map(str, request.node.callspec.params.values()))
    for fixture, implementation in MODELS.items():
        if fixture in asked:
            name = fixture.replace("_", "-")
            written = {"name": name, "implementation": implementation}
            models[name] = {**written, "parameters": {"version": "v1.2.3"}}
    with open(os.path.join(TESTDATA_PATH, "settings.json")) as file:
        written = json.load(file)
    if hasattr(settings, "metrics_endpoint"):
        written["metrics_endpoint"] = settings.metrics_endpoint
    key = (*sorted(models), written.get("metrics_endpoint"))
    if "metrics_client" in request.fixturenames:
        key = (request.node.nodeid,)
    if key not in STARTED:
        STARTED[key] = Served(tmp_path_factory.mktemp("served"), models, written)
    yield STARTED[key]
    _load_again(STARTED[key].addresses["http"])


def _load_again(http):
    """Load what a test has unloaded."""
    with urllib.request.urlopen(_post(f"{http}/v2/repository/index")) as answer:
        found = json.load(answer)
    for model in found:
        if model["state"] != "READY":
            urllib.request.urlopen(_post(f"{http}/v2/repository/models/{model['name']}/load"))


def _post(url):
    return urllib.request.Request(url, b"{}", {"content-type": "application/json"})


@pytest.fixture(name="mlserver")
def server(served, settings):
    """What tests ask for that connect to the ports in their settings themselves."""
    settings.host = "127.0.0.1"
    settings.http_port = int(served.addresses["http"].rpartition(":")[2])
    settings.grpc_port = int(served.addresses["grpc"].rpartition(":")[2])
    return served


@pytest.fixture
async def rest_client(request, served):
    http = served.addresses["http"]
    if "rest_client" in request.fixturenames and "/tests/rest/" in str(request.path):
        import httpx

        async with httpx.AsyncClient(base_url=http) as client:
            yield client
    else:
        from .utils import RESTClient

        client = RESTClient(http.removeprefix("http://"))
        yield client
        await client.close()


@pytest.fixture
async def metrics_client(served, settings):
    from .metrics.utils import MetricsClient

    address, _, path = (
        served.addresses.get("metrics", "http://127.0.0.1:9").removeprefix("http://").partition("/")
    )
    client = MetricsClient(address, metrics_endpoint=settings.metrics_endpoint)
    yield client
    await client.close()


@pytest.fixture
def grpc_server(served):
    return served


@pytest.fixture
async def inference_service_stub(served):
    from grpc import aio
    from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

    async with aio.insecure_channel(served.addresses["grpc"]) as channel:
        yield GRPCInferenceServiceStub(channel)


def _read(cls, name):
    return cls.parse_file(os.path.join(TESTDATA_PATH, name))


@pytest.fixture
def settings():
    return _read(Settings, "settings.json")


@pytest.fixture
def settings_stream():
    return _read(Settings, "settings-stream.json")


@pytest.fixture
def sum_model_settings():
    return _read(ModelSettings, "model-settings.json")


def _model(name):
    return getattr(importlib.import_module(".fixtures", __package__), name)


@pytest.fixture
def simple_model_settings(sum_model_settings):
    sum_model_settings.name = "simple-model"
    sum_model_settings.implementation = _model("SimpleModel")
    return sum_model_settings


@pytest.fixture
def text_model_settings():
    return ModelSettings(
        name="text-model",
        implementation=_model("TextModel"),
        parallel_workers=0,
        parameters={"version": "v1.2.3"},
    )


@pytest.fixture
def text_stream_model_settings():
    return ModelSettings(
        name="text-stream-model",
        implementation=_model("TextStreamModel"),
        parallel_workers=0,
        parameters={"version": "v1.2.3"},
    )


@pytest.fixture
async def sum_model(sum_model_settings):
    model = _model("SumModel")(sum_model_settings)
    model.ready = await model.load()
    return model


@pytest.fixture
async def simple_model(simple_model_settings):
    return _model("SimpleModel")(simple_model_settings)


@pytest.fixture
async def text_model(text_model_settings):
    return _model("TextModel")(text_model_settings)


@pytest.fixture
async def text_stream_model(text_stream_model_settings):
    return _model("TextStreamModel")(text_stream_model_settings)


@pytest.fixture
def metadata_server_response():
    return _read(types.MetadataServerResponse, "metadata-server-response.json")


@pytest.fixture
def metadata_model_response():
    return _read(types.MetadataModelResponse, "metadata-model-response.json")


@pytest.fixture
def inference_request():
    return _read(types.InferenceRequest, "inference-request.json")


@pytest.fixture
def generate_request():
    return _read(types.InferenceRequest, "generate-request.json")


@pytest.fixture
def inference_request_invalid_datatype():
    with open(os.path.join(TESTDATA_PATH, "inference-request-invalid-datatype.json")) as file:
        return json.load(file)


@pytest.fixture
def inference_response():
    return _read(types.InferenceResponse, "inference-response.json")


@pytest.fixture
def repository_index_request():
    return types.RepositoryIndexRequest(ready=None)


@pytest.fixture
def repository_index_response(sum_model_settings):
    return types.RepositoryIndexResponse(
        root=[
            types.RepositoryIndexResponseItem(
                name=sum_model_settings.name,
                version=sum_model_settings.parameters.version,
                state=types.State.READY,
                reason="",
            )
        ]
    )


@pytest.fixture
def datatype_error_message():
    return (
        "Input should be"
        " 'BOOL', 'UINT8', 'UINT16', 'UINT32',"
        " 'UINT64', 'INT8', 'INT16', 'INT32', 'INT64',"
        " 'FP16', 'FP32', 'FP64' or 'BYTES'"
    )


@pytest.fixture
def custom_handler():
    from mlserver.handlers.custom import CustomHandler

    return CustomHandler(rest_path="/my-custom-endpoint")


def _grpc(name, cls):
    from google.protobuf import json_format
    from mlserver.grpc import dataplane_pb2 as pb

    made = getattr(pb, cls)()
    with open(os.path.join(TESTDATA_PATH, "grpc", name)) as file:
        json_format.Parse(file.read(), made)
    return made


@pytest.fixture
def model_infer_request():
    return _grpc("model-infer-request.json", "ModelInferRequest")


@pytest.fixture
def model_generate_request():
    return _grpc("model-generate-request.json", "ModelInferRequest")


@pytest.fixture
def model_infer_request_invalid_datatype():
    return _grpc("model-infer-request-invalid-datatype.json", "ModelInferRequest")


@pytest.fixture
def grpc_parameters():
    from mlserver.grpc import dataplane_pb2 as pb

    return {
        "content_type": pb.InferParameter(string_param="np"),
        "foo": pb.InferParameter(bool_param=True),
        "bar": pb.InferParameter(int64_param=46),
    }


@pytest.fixture
def grpc_repository_index_request():
    from mlserver.grpc import dataplane_pb2 as pb

    return pb.RepositoryIndexRequest(ready=None)


@pytest.fixture
def metrics_registry():
    from mlserver.metrics.registry import REGISTRY

    return REGISTRY

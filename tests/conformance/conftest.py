"""One server for all transports; each test that takes `transport` runs over every one of them."""

from __future__ import annotations

import json

import pytest

from conformance.transports import TRANSPORTS
from support.certificates import Authority
from support.custom import write_model
from support.plugins import write_plugin
from support.serving import serving

# Gives back the tensors and parameters exactly as they arrived.
ECHO = """
from headrace.model import InferenceRequest, InferenceResponse, Model

class Echo(Model):
    def predict(self, request: InferenceRequest) -> InferenceResponse:
        return InferenceResponse(request.inputs, request.parameters)
"""
MASKED = "return {'n': np.ma.array([1, 2], mask=[0, 1]), 'f': np.ma.array([1.5, 2], mask=[0, 1])}"
PREDICT = """
if data == b"raise":
    raise RuntimeError("no")
return None if data == b"nothing" else {"got": data.decode()}
"""
DESCRIBED = {
    "name": "echo",
    "implementation": "echo:Echo",
    "platform": "mirror",
    "parameters": {"version": "3"},
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
    "outputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
}


# A connection is idle while other transports are tested, on a slow machine for minutes.
PATIENT = ("--keep-alive-timeout", 3600)


@pytest.fixture(scope="package")
def models(tmp_path_factory):
    """A folder with the models `echo`, `double`, `masked`, `fails`, `sleeps` and `plugin`."""
    root = tmp_path_factory.mktemp("models")
    (root / "echo").mkdir()
    (root / "echo/echo.py").write_text(ECHO)
    (root / "echo/model-settings.json").write_text(json.dumps(DESCRIBED))
    write_model(root, "return x * 2", name="double")
    write_model(root, MASKED, name="masked")
    write_model(root, "raise ValueError('no')", name="fails")
    write_model(root, "time.sleep(3)\nreturn x", name="sleeps")
    write_plugin(root, PREDICT, name="plugin")
    return root


@pytest.fixture(scope="package")
def announced(models):
    """The addresses of a server with these models."""
    with serving(models, "--no-native-grpc", *PATIENT) as server:
        yield server.announced


@pytest.fixture(scope="package")
def announced_natively(models):
    """The addresses of another server, whose gRPC runs on the native core."""
    with serving(models, "--native-grpc", *PATIENT) as server:
        yield server.announced


@pytest.fixture(scope="package")
def authority(tmp_path_factory):
    """Who signs the certificate of the server that speaks TLS."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="package")
def announced_with_tls(models, authority):
    """The addresses of a third server, which speaks TLS."""
    with serving(models, *authority.issue().flags, *PATIENT) as server:
        yield server.announced


@pytest.fixture(scope="package")
def transports(announced, announced_natively, announced_with_tls, authority):
    """Every transport, by name."""

    def made(name, transport):
        if name.endswith("TLS"):
            return transport(announced_with_tls, authority.file)
        return transport(announced_natively if name.startswith("native") else announced)

    transports = {name: made(name, transport) for name, transport in TRANSPORTS.items()}
    yield transports
    for transport in transports.values():
        transport.close()


@pytest.fixture(scope="package", params=list(TRANSPORTS))
def transport(request, transports):
    return transports[request.param]


@pytest.fixture(scope="package")
def reference(transports):
    """The transport to compare the others with."""
    return transports["REST JSON"]

"""One server for all doors; each test that takes `door` runs through every one of them."""

from __future__ import annotations

import json

import pytest

from conformance.doors import DOORS
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


# A connection is idle while other doors are asked, on a slow machine for minutes.
PATIENT = ("--keep-alive-timeout", 3600)


@pytest.fixture(scope="package")
def models(tmp_path_factory):
    """A folder with the models `echo`, `double`, `fails` and `plugin`."""
    root = tmp_path_factory.mktemp("models")
    (root / "echo").mkdir()
    (root / "echo/echo.py").write_text(ECHO)
    (root / "echo/model-settings.json").write_text(json.dumps(DESCRIBED))
    write_model(root, "return x * 2", name="double")
    write_model(root, "raise ValueError('no')", name="fails")
    write_plugin(root, PREDICT, name="plugin")
    return root


@pytest.fixture(scope="package")
def announced(models):
    """The addresses of a server of these models."""
    with serving(models, "--no-native-grpc", *PATIENT) as server:
        yield server.announced


@pytest.fixture(scope="package")
def announced_natively(models):
    """Those of another one, whose gRPC runs on the native core."""
    with serving(models, "--native-grpc", *PATIENT) as server:
        yield server.announced


@pytest.fixture(scope="package")
def doors(announced, announced_natively):
    """Every door, by name."""
    doors = {
        name: door(announced_natively if name.startswith("native") else announced)
        for name, door in DOORS.items()
    }
    yield doors
    for door in doors.values():
        door.close()


@pytest.fixture(scope="package", params=list(DOORS))
def door(request, doors):
    return doors[request.param]


@pytest.fixture(scope="package")
def reference(doors):
    """The door that the others are compared with."""
    return doors["REST JSON"]

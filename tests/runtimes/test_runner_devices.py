"""Runners of PyTorch's models: the device they compute on, several methods, and tensors."""

from __future__ import annotations

import mlflow
import numpy as np
import pytest

import headrace
from headrace.errors import InvalidModel
from headrace.runtimes.tensors import torch_device
from support.asking import ask
from support.services import serving_service, write_service

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.runtimes

GPU = torch.cuda.is_available()
DEVICE = "cuda:0" if GPU else "cpu"

SERVICE = """
import torch

class Tensors(headrace.Runnable):
    SUPPORTED_RESOURCES = ("nvidia.com/gpu", "cpu")
    SUPPORTS_CPU_MULTI_THREADING = True

    def __init__(self):
        self.device = "cuda:0" if torch.cuda.is_available() else "cpu"
        self.weights = torch.ones(3, requires_grad=True, device=self.device)

    @headrace.Runnable.method(batchable=True)
    def weighted(self, rows):
        # What is given is a tensor, or an array.
        return torch.as_tensor(rows).to(self.device) * self.weights

    @headrace.Runnable.method
    def both(self, rows):
        return {"is_tensor": torch.is_tensor(rows), "rows": rows, "device": self.device}

net = stored("net")
tensors = headrace.Runner(Tensors)
svc = Service("s", runners=[net, tensors])

async def body(rows):
    weighted = await tensors.weighted.async_run(rows)
    both = await tensors.both.async_run(rows)
    return [
        type(weighted).__name__,
        str(weighted.dtype),
        weighted.detach().cpu().numpy().tolist(),
        both["is_tensor"],
        type(both["rows"]).__name__,
        both["device"],
    ]

@svc.api(input=NumpyNdarray(dtype="float32"), output=JSON())
async def of_tensors(rows):
    return await body(torch.from_numpy(rows))

@svc.api(input=NumpyNdarray(dtype="float32"), output=JSON())
async def of_arrays(rows):
    return await body(rows)

@svc.api(input=NumpyNdarray(dtype="float32"), output=NumpyNdarray())
async def doubled(rows):
    return await net.async_run(rows)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))

    # Local, so that the pickle holds the class itself.
    class Net(torch.nn.Module):
        def forward(self, x):
            return x * 2

    headrace.pytorch.save_model("net", Net(), signatures={"__call__": {"batchable": True}})
    return write_service(tmp_path, monkeypatch, SERVICE)


def test_a_served_runner_says_the_device_that_it_computes_on_and_tensors_stay_tensors(file):
    rows = [[1.0, 2.0, 3.0]]
    with serving_service(file) as server:
        assert ask(server.http, "GET", "/v2/models/net").json["parameters"]["device"] == DEVICE
        assert ask(server.http, "POST", "/doubled", rows).json == [[2.0, 4.0, 6.0]]
        tensors = ask(server.http, "POST", "/of_tensors", rows).json
        arrays = ask(server.http, "POST", "/of_arrays", rows).json

    assert tensors == ["Tensor", "torch.float32", rows, True, "Tensor", DEVICE]
    assert arrays == ["Tensor", "torch.float32", rows, False, "ndarray", DEVICE]


@pytest.mark.skipif(GPU, reason="there is a GPU")
def test_a_gpu_that_is_asked_for_and_is_not_there_is_refused_in_words():
    with pytest.raises(InvalidModel, match="device 'cuda': PyTorch sees 0 GPUs here"):
        torch_device.choose({"device": "cuda"})


@pytest.mark.skipif(not GPU, reason="no GPU")
def test_an_mlflow_model_computes_on_the_gpu_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    model = torch.nn.Linear(3, 1)
    folder = str(tmp_path / "logged")
    mlflow.pytorch.save_model(model, folder, serialization_format="pickle")
    headrace.mlflow.import_model("logged", folder)
    runner = headrace.mlflow.get("logged").to_runner()
    runner.init_local(quiet=True)
    before = torch.cuda.max_memory_allocated()
    rows = np.ones((4, 3), np.float32)

    found = runner.predict.run(rows)

    assert torch.cuda.max_memory_allocated() > before
    np.testing.assert_allclose(found, model.cpu()(torch.from_numpy(rows)).detach(), rtol=1e-4)

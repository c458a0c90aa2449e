"""Models of PyTorch in the store: modules, programs, TorchScript and pipelines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import headrace
from headrace.codecs.array import tensor_of
from headrace.errors import InvalidInput, InvalidModel, NotFound
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import unpack_bytes
from support.served_models import answer, served, settings

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
]

X = np.arange(12, dtype=np.float32).reshape(4, 3)
CALL = {"__call__": {"batchable": True}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(3, 2)

    def forward(self, grapes):
        return self.line(grapes)

    def encode(self, grapes, scale=torch.tensor(1.0)):  # noqa: B008
        return torch.relu(grapes) * scale


def own(model, array):
    with torch.no_grad():
        return model.eval()(torch.from_numpy(array)).numpy()


def test_a_module_comes_back_whole_and_is_served_by_each_of_its_methods():
    signatures = {**CALL, "encode": {"batchable": True}}
    model = Net()
    stored = headrace.pytorch.save_model("net", model, signatures=signatures)
    np.testing.assert_array_equal(own(headrace.pytorch.load_model("net"), X), own(model, X))
    runtime = served(stored)
    assert runtime.metadata().row_independent
    np.testing.assert_allclose(answer(runtime, X), own(model, X), rtol=1e-6)
    np.testing.assert_array_equal(answer(runtime, X - 5, "encode"), np.maximum(X - 5, 0))
    scaled = [tensor_of("grapes", X), tensor_of("scale", np.float32([2]))]
    found = runtime.infer(InferenceRequest(scaled, None, ["encode"]))
    np.testing.assert_array_equal(np.frombuffer(found.outputs[0].data, np.float32), (X * 2).ravel())


def test_a_module_whose_class_is_in_a_script_is_loaded_without_the_script(tmp_path):
    script = """if True:
        import headrace, torch
        class Double(torch.nn.Module):
            def forward(self, x):
                return x * 2
        headrace.pytorch.save_model("double", Double())
    """
    for program in (
        script,
        "import headrace, torch; print(headrace.pytorch.load_model('double')(torch.ones(1)))",
    ):
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "tensor([2.])"


def test_a_module_without_signatures_is_not_merged():
    found = settings(headrace.pytorch.save_model("net", Net()))
    assert (found.implementation, found.extra) == ("pytorch", {})
    assert not served(headrace.pytorch.get("net")).metadata().row_independent


def test_an_exported_program_is_saved_without_a_pickle():
    rows = {"grapes": {0: torch.export.Dim("rows")}}
    model = Net().eval()
    program = torch.export.export(model, (torch.zeros(2, 3),), dynamic_shapes=rows)
    stored = headrace.pytorch.save_model("net", program, signatures=CALL)
    assert Path(stored.path_of("model.pt2")).is_file()
    loaded = headrace.pytorch.load_model(stored)
    np.testing.assert_allclose(loaded(torch.from_numpy(X)).detach(), own(model, X), rtol=1e-6)
    np.testing.assert_allclose(answer(served(stored), X), own(model, X), rtol=1e-6)


def test_torchscript_comes_back_and_is_served():
    model = Net().eval()
    stored = headrace.torchscript.save_model("net", torch.jit.trace(model, torch.zeros(1, 3)))
    loaded = headrace.torchscript.load_model("net")
    np.testing.assert_allclose(own(loaded, X), own(model, X), rtol=1e-6)
    np.testing.assert_allclose(answer(served(stored), X), own(model, X), rtol=1e-6)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda: headrace.torchscript.save_model("m", Net()), "takes a ScriptModule of"),
        (lambda: headrace.pytorch.save_model("m", {}), "takes an nn.Module or a program of"),
        (
            lambda: headrace.pytorch.save_model("m", torch.jit.trace(Net(), torch.zeros(1, 3))),
            "headrace.torchscript saves ScriptModules",
        ),
    ],
    ids=["plain module", "dict", "script"],
)
def test_an_object_of_another_kind_is_refused(save, message):
    with pytest.raises(TypeError, match=message):
        save()


def test_a_module_saved_as_torchscript_is_not_one_of_pytorch():
    headrace.torchscript.save_model("net:v1", torch.jit.trace(Net(), torch.zeros(1, 3)))
    with pytest.raises(NotFound, match="headrace.torchscript.load_model read it"):
        headrace.pytorch.load_model("net:v1")


def test_a_local_runner_takes_an_array_as_a_served_one_does():
    stored = headrace.pytorch.save_model("net", Net(), signatures=CALL)
    runner = stored.to_runner()
    runner.init_local(quiet=True)
    expected = own(headrace.pytorch.load_model("net"), X)
    answer = runner.run(X)
    assert isinstance(answer, torch.Tensor)
    np.testing.assert_allclose(answer.detach().cpu().numpy(), expected, rtol=1e-6)


def pipeline(folder):
    transformers = pytest.importorskip("transformers")
    from support import tiny_transformers

    tiny_transformers.bert(folder)
    return transformers.pipeline("text-classification", model=str(folder), device="cpu")


def test_a_pipeline_is_saved_as_safetensors_and_served(tmp_path):
    made = pipeline(tmp_path)
    stored = headrace.transformers.save_model("wines", made, signatures=CALL)
    assert Path(stored.path_of("pretrained/model.safetensors")).is_file()
    expected = made("good wine")
    assert headrace.transformers.load_model("wines")("good wine") == expected
    text = tensor_of("args", np.array(["good wine"], dtype=object))
    (output,) = served(stored).infer(InferenceRequest([text])).outputs
    assert expected[0]["label"] in unpack_bytes(output.data, 1)[0].decode()


def test_a_pretrained_model_is_read_back_but_only_pipelines_are_served(tmp_path):
    made = pipeline(tmp_path)
    stored = headrace.transformers.save_model("bert", made.model)
    assert type(headrace.transformers.load_model("bert")) is type(made.model)
    with pytest.raises(InvalidModel, match="only pipelines can be served"):
        headrace.transformers.settings_of(stored)


def test_a_method_that_a_pipeline_does_not_serve_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="headrace.transformers serves '__call__', not 'fit'"):
        headrace.transformers.save_model("m", pipeline(tmp_path), signatures={"fit": {}})

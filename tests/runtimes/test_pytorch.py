from __future__ import annotations

import gc
import sys
import weakref

import numpy as np
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]

X = np.arange(12, dtype=np.float32).reshape(4, 3)
NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.line = torch.nn.Linear(3, width)
    def forward(self, x):
        return self.line(x)
"""


def linear():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.9))


def own(model, array):
    with torch.no_grad():
        return model.eval()(torch.from_numpy(array)).numpy()


def save_pickle(model, folder):
    torch.save(model, folder / "model.pt")


def save_script(model, folder):
    torch.jit.script(model).save(folder / "model.pt")


def save_trace(model, folder):
    torch.jit.trace(model.eval(), torch.zeros(1, 3)).save(folder / "model.pt")


def save_export(model, folder):
    rows = {"input": {0: torch.export.Dim("rows")}}
    program = torch.export.export(model.eval(), (torch.zeros(2, 3),), dynamic_shapes=rows)
    torch.export.save(program, folder / "model.pt2")


def load(uri, **settings):
    runtime = create(ModelSettings("m", "pytorch", uri=str(uri), **settings))
    runtime.load()
    return runtime


def ask(runtime, *tensors, **parts):
    return [array_of(t) for t in runtime.infer(InferenceRequest(list(tensors), **parts)).outputs]


SAVERS = [save_pickle, save_script, save_trace, save_export]


@pytest.mark.parametrize("save", SAVERS, ids=lambda save: save.__name__[5:])
def test_every_form_answers_like_the_module_in_evaluation_mode(save, tmp_path):
    model = linear()
    save(model, tmp_path)
    (answer,) = ask(load(tmp_path), tensor_of("input", X))
    np.testing.assert_allclose(answer, own(model, X), rtol=1e-6)


def test_a_batch_answers_as_its_rows_do(tmp_path):
    save_pickle(linear(), tmp_path)
    runtime = load(tmp_path, extra={"batchable": True})
    assert runtime.metadata().row_independent
    single = [ask(runtime, tensor_of("input", X[i : i + 1]))[0] for i in range(4)]
    np.testing.assert_allclose(ask(runtime, tensor_of("input", X))[0], np.concatenate(single), 1e-5)


def test_rows_are_not_independent_unless_declared(tmp_path):
    save_pickle(linear(), tmp_path)
    assert not load(tmp_path).metadata().row_independent


def test_a_fixed_first_dimension_cannot_be_batchable(tmp_path):
    save_pickle(linear(), tmp_path)
    inputs = [{"name": "input", "datatype": "FP32", "shape": [1, 3]}]
    with pytest.raises(LoadFailed, match="first dimension of input 'input' is fixed"):
        load(tmp_path, inputs=inputs, extra={"batchable": True})


def test_doubles_are_cast_to_the_type_of_the_weights(tmp_path):
    model = linear()
    save_pickle(model, tmp_path)
    (answer,) = ask(load(tmp_path), tensor_of("input", X.astype(np.float64)))
    assert answer.dtype == np.float32


def test_a_bfloat16_module_takes_and_gives_floats(tmp_path):
    save_pickle(linear().to(torch.bfloat16), tmp_path)
    (answer,) = ask(load(tmp_path), tensor_of("input", X))
    assert answer.dtype == np.float32


def test_the_columns_of_a_table_become_one_matrix(tmp_path):
    model = linear()
    save_pickle(model, tmp_path)
    columns = [tensor_of(name, np.ascontiguousarray(X[:, i])) for i, name in enumerate("abc")]
    (answer,) = ask(load(tmp_path), *columns, parameters={"content_type": "pd"})
    np.testing.assert_allclose(answer, own(model, X), rtol=1e-6)


@pytest.mark.parametrize("save", SAVERS, ids=lambda save: save.__name__[5:])
def test_a_wrong_width_is_refused_with_the_inputs_name_and_shape(save, tmp_path):
    save(linear(), tmp_path)
    runtime = load(tmp_path)
    with pytest.raises(InvalidInput, match=r"'rows' of FP32 \[4, 2\]"):
        runtime.infer(InferenceRequest([tensor_of("rows", X[:, :2].copy())]))


def test_a_declared_shape_is_checked_before_the_module_runs(tmp_path):
    save_pickle(linear(), tmp_path)
    runtime = load(tmp_path, inputs=[{"name": "input", "datatype": "FP32", "shape": [-1, 3]}])
    with pytest.raises(InvalidInput, match=r"'input': expected shape \[-1, 3\], got \[4, 2\]"):
        runtime.infer(InferenceRequest([tensor_of("input", X[:, :2].copy())]))


def test_text_is_refused(tmp_path):
    save_pickle(linear(), tmp_path)
    runtime = load(tmp_path)
    with pytest.raises(InvalidInput, match="'input': expected numbers, got text"):
        runtime.infer(InferenceRequest([tensor_of("input", np.array(["a"], object))]))


def test_weights_need_a_class_and_are_loaded_without_running_code(tmp_path):
    (tmp_path / "torch_net.py").write_text(NET)
    namespace: dict = {}
    exec(NET, namespace)
    model = namespace["Net"](width=5)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    extra = {"module": "torch_net:Net", "module_args": {"width": 5}}
    runtime = load(tmp_path, folder=str(tmp_path), extra=extra)
    np.testing.assert_allclose(ask(runtime, tensor_of("x", X))[0], own(model, X), rtol=1e-6)


def test_weights_without_a_class_say_what_is_missing(tmp_path):
    torch.save(linear().state_dict(), tmp_path / "model.pt")
    with pytest.raises(LoadFailed, match=r"name its class as module:Class in parameters.extra"):
        load(tmp_path)


def test_weights_that_hold_more_than_tensors_are_refused(tmp_path):
    (tmp_path / "torch_net2.py").write_text(NET)
    torch.save(linear(), tmp_path / "model.pt")
    with pytest.raises(LoadFailed, match="could not be read: UnpicklingError"):
        load(tmp_path, folder=str(tmp_path), extra={"module": "torch_net2:Net"})


@pytest.fixture
def two_inputs(tmp_path):
    (tmp_path / "several_net.py").write_text(
        "import torch\n"
        "class Several(torch.nn.Module):\n"
        "    def forward(self, a, b, scale=None):\n"
        "        total = a + b if scale is None else (a + b) * scale\n"
        "        return {'sum': total, 'difference': a - b}\n"
    )
    sys.path.insert(0, str(tmp_path))
    module = __import__("several_net")
    torch.save(module.Several(), tmp_path / "model.pt")
    sys.path.remove(str(tmp_path))
    yield load(tmp_path, folder=str(tmp_path))
    sys.modules.pop("several_net", None)


def test_inputs_find_their_parameters_by_name_and_outputs_have_theirs(two_inputs):
    request = InferenceRequest([tensor_of("b", X), tensor_of("a", X * 3)])
    response = two_inputs.infer(request)
    assert [tensor.name for tensor in response.outputs] == ["sum", "difference"]
    np.testing.assert_array_equal(array_of(response.outputs[1]), X * 2)


def test_an_optional_input_may_be_sent(two_inputs):
    scale = np.array([2], np.float32)
    tensors = [tensor_of("a", X), tensor_of("b", X), tensor_of("scale", scale)]
    np.testing.assert_array_equal(ask(two_inputs, *tensors)[0], X * 4)


def test_only_the_wanted_outputs_are_returned(two_inputs):
    answers = ask(two_inputs, tensor_of("a", X), tensor_of("b", X), outputs=["difference"])
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        pytest.param(["a"], "missing input 'b', got 'a'", id="missing"),
        pytest.param(["a", "c"], "input 'c' is unknown, this model takes 'a', 'b'", id="unknown"),
    ],
)
def test_inputs_that_do_not_match_forward_are_named(names, complaint, two_inputs):
    with pytest.raises(InvalidInput, match=complaint):
        two_inputs.infer(InferenceRequest([tensor_of(name, X) for name in names]))


def test_an_unknown_output_is_refused(two_inputs):
    request = InferenceRequest([tensor_of("a", X), tensor_of("b", X)], None, ["ratio"])
    with pytest.raises(InvalidInput, match="output 'ratio' is not available"):
        two_inputs.infer(request)


def test_metadata_names_inputs_and_device(two_inputs):
    metadata = two_inputs.metadata()
    assert [tensor.name for tensor in metadata.inputs] == ["a", "b", "scale"]
    assert metadata.parameters["device"] in ("cpu", "cuda:0")
    assert metadata.from_dict(metadata.to_dict()) == metadata


def test_a_missing_gpu_fails_the_load(tmp_path):
    save_pickle(linear(), tmp_path)
    with pytest.raises(LoadFailed, match="device 'cuda:99': PyTorch sees"):
        load(tmp_path, extra={"device": "cuda:99"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_is_used_where_there_is_one(tmp_path):
    model = linear()
    save_pickle(model, tmp_path)
    runtime = load(tmp_path)
    assert runtime.metadata().parameters["device"] == "cuda:0"
    (answer,) = ask(runtime, tensor_of("input", X))
    np.testing.assert_allclose(answer, own(model, X), rtol=1e-4)


def test_unloading_frees_the_module(tmp_path):
    save_pickle(linear(), tmp_path)
    runtime = load(tmp_path)
    watched = weakref.ref(runtime._module)
    runtime.unload()
    gc.collect()
    assert watched() is None


def test_without_pytorch_the_load_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        LoadFailed, match=r"torch is not installed: pip install 'headrace\[torch\]'"
    ):
        load(tmp_path)

"""PyTorch models from a file: TorchScript, exported programs, pickled modules and weights."""

from __future__ import annotations

import importlib
import inspect
import re
import zipfile
from typing import Any, Callable, NamedTuple

import numpy as np

from headrace.errors import InvalidInput, InvalidModel, shorten
from headrace.model import Model, declared
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.protocol.value_forms import Form
from headrace.runtimes import artefact, import_path
from headrace.runtimes.tensors import array_inputs, torch_device
from headrace.runtimes.tensors.array_inputs import Spec

FILES = ("model.pt", "model.pth", "model.pt2", "model.jit", "data/model.pth")

# What PyTorch says about inputs that do not fit; these excerpts hold only shapes and types.
_REFUSALS = tuple(
    re.compile(pattern)
    for pattern in (
        r"shapes cannot be multiplied \([0-9x]+ and [0-9x]+\)",
        r"mat1 and mat2 must have the same dtype, but got \w+ and \w+",
        r"Expected \d+D .{0,40} input to \w+, but got input of size: \[[0-9, ]*\]",
        r"expected input\[[0-9, ]+\] to have \d+ channels, but got \d+ channels",
        r"The size of tensor a \(\d+\) must match the size of tensor b \(\d+\)",
        r"one of the following scalar types: [\w, ]+; but got [\w.]+ instead",
        r"expected scalar type \w+ but found \w+",
        r"expected \d+D(?: or \d+D)* input \(got \d+D input\)",
        r"expected input with shape \[[0-9*, ]+\], but got input of size ?\[[0-9, ]*\]",
        r"running_mean should contain \d+ elements not \d+",
        r"[Ii]nput\S* to be equal to \d+, but got \d+",
        r"Expected input at .{0,60}(?:dtype|number of dimensions) .{0,80}",
        r"Guard failed: \w+\.size\(\)\[\d+\] .{1,60}",
        r"index out of range in self",
    )
)
_DATATYPES = {"float16": "FP16", "bfloat16": "FP32", "float32": "FP32", "float64": "FP64"}


class Call(NamedTuple):
    """A method of the module: its inputs, and the order of its arguments."""

    function: Callable[..., Any]
    specs: list[Spec]
    order: list[str]


class PyTorchRuntime(Model):
    """Serve an `nn.Module`: TorchScript, `torch.export`, a pickled module, or its weights.

    Weights need `extra["module"]`, the class as `module:Class`, and `module_args`, its keyword
    arguments; everything else in the file is then refused. Inputs are the parameters of
    `forward`; floating-point ones are cast to the type of the weights. The answer is one
    output per tensor. `extra["batchable"]` promises independent rows; `device` picks a GPU.

    `extra["methods"]` names further methods of the module: a request whose only output is one of
    them is answered by it. `extra["predict_fn"]` replaces the call of the module.
    """

    platform = "pytorch"

    def load(self) -> None:
        torch = artefact.require("torch", "pytorch")
        torch_device.set_threads(self.settings.extra)
        self._device = torch_device.choose(self.settings.extra)
        path = artefact.locate(self.settings, FILES)
        if self.settings.folder:
            import_path.put_first(self.settings.folder)
        what = f"the PyTorch model '{self.settings.name}'"
        module = artefact.read(what, lambda: self._read(torch, path))
        self._module = module.to(self._device)
        floating = (w.dtype for w in module.parameters() if w.is_floating_point())
        self._dtype = next(floating, torch.float32)
        self._floats = _DATATYPES.get(str(self._dtype).partition(".")[2], "FP32")
        default = self.settings.extra.get("predict_fn") or "__call__"
        self._call = self._call_of(default, array_inputs.declared_specs(self.settings))
        others = self.settings.extra.get("methods") or ()
        self._others = {name: self._call_of(name) for name in others}
        self.row_independent = array_inputs.is_batchable(self.settings, self._call.specs)

    def unload(self) -> None:
        del self._module, self._call, self._others
        torch_device.release()

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=[spec.metadata(self._floats) for spec in self._call.specs],
            outputs=declared(self.settings.outputs),
            parameters={"device": str(self._device)},
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Call the module in evaluation mode, without gradients.

        Raises:
            InvalidInput: an input is missing or unknown, or PyTorch says that its shape or type
                does not fit the module.
        """
        import torch

        wanted = request.outputs
        call = self._others.get(wanted[0]) if wanted and len(wanted) == 1 else None
        # The name of a method is not that of a tensor.
        call, wanted = (self._call, wanted) if call is None else (call, None)
        specs = call.specs or [Spec(tensor.name) for tensor in request.inputs]
        arrays = array_inputs.take(request, specs, self._floats)
        tensors = {name: self._tensor(torch, array) for name, array in arrays.items()}
        order = call.order or list(tensors)
        given = next((i for i, name in enumerate(order) if name not in tensors), len(order))
        positional = [tensors.pop(name) for name in order[:given]]
        try:
            with torch.inference_mode():
                found = call.function(*positional, **tensors)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            raise _refusal(error, request) or error from error
        names = [row["name"] for row in self.settings.outputs]
        response = array_inputs.answer(_arrays(found), names, wanted)
        response.form = _form(response, isinstance(found, dict) or bool(names))
        return response

    def _call_of(self, name: str, given: list[Spec] | None = None) -> Call:
        """A method with its inputs: those that are given, or else its parameters."""
        function = getattr(self._module, "forward" if name == "__call__" else name, None)
        if not callable(function):
            raise InvalidModel(
                f"the PyTorch model '{self.settings.name}' has no method '{shorten(name)}'"
            )
        own = _specs_of(function)
        specs = given or own
        # The arguments' order; given inputs of other names are taken in the order given.
        same = {spec.name for spec in specs} <= {spec.name for spec in own}
        order = [spec.name for spec in (own if same else specs)]
        return Call(self._module if name == "__call__" else function, specs, order)

    def _tensor(self, torch: Any, array: Any) -> Any:
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
        if self._dtype == torch.bfloat16 and tensor.is_floating_point():
            # numpy has no such type, so the array came as float32.
            return tensor.to(torch.bfloat16)
        return tensor

    def _read(self, torch: Any, path: str) -> Any:
        members = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
        if any(name.endswith("/constants.pkl") for name in members):
            return torch.jit.load(path, map_location=self._device).eval()
        if any(name.endswith("/archive_format") or name == "archive_format" for name in members):
            # An exported program has a fixed mode and refuses `eval`.
            return torch.export.load(path).module()
        if self.settings.extra.get("module"):
            return self._with_weights(torch, path)
        try:
            module = torch.load(path, map_location=self._device, weights_only=False)
        except AttributeError as error:
            raise InvalidModel(
                f"the PyTorch model '{self.settings.name}' was pickled with a class that cannot "
                "be found here; put its module next to the settings, or save it as TorchScript"
            ) from error
        if not isinstance(module, torch.nn.Module):
            raise InvalidModel(
                f"the PyTorch model '{self.settings.name}' is a file of weights, not a module; "
                "name its class as module:Class in parameters.extra.module"
            )
        return module.eval()

    def _with_weights(self, torch: Any, path: str) -> Any:
        name = str(self.settings.extra["module"])
        file, _, attribute = name.partition(":")
        cls = getattr(importlib.import_module(file), attribute, None) if attribute else None
        if cls is None:
            raise InvalidModel(
                f"extra.module '{shorten(name)}' is not a class of the form module:Class"
            )
        module = cls(**(self.settings.extra.get("module_args") or {}))
        module.load_state_dict(torch.load(path, map_location=self._device, weights_only=True))
        return module.eval()


def _specs_of(function: Any) -> list[Spec]:
    """The parameters of a method; empty if it takes any."""
    schema = getattr(function, "schema", None)
    if schema is not None:
        arguments = schema.arguments[1:]
        return [Spec(a.name, required=not a.has_default_value()) for a in arguments]
    specs = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return []
        if parameter.kind is not parameter.VAR_KEYWORD:
            specs.append(Spec(parameter.name, required=parameter.default is parameter.empty))
    return specs


def _arrays(found: Any) -> Any:
    """The module's answer with arrays in place of its tensors; None is left out."""
    if hasattr(found, "detach"):
        dense = found.to_dense() if found.is_sparse else found
        if str(dense.dtype) == "torch.bfloat16":
            dense = dense.float()
        return dense.detach().cpu().numpy()
    if isinstance(found, dict):
        return {str(name): _arrays(item) for name, item in found.items() if item is not None}
    if isinstance(found, (list, tuple)):
        return [_arrays(item) for item in found if item is not None]
    return np.asarray(found)


def _form(response: InferenceResponse, is_named: bool) -> Form:
    """What a runner makes of the arrays: the tensors that the module returned."""
    if len(response.outputs) == 1:
        return "torch"
    if is_named:
        return {"dict": [[output.name, "torch"] for output in response.outputs]}
    return {"tuple": ["torch"] * len(response.outputs)}


def _refusal(error: Exception, request: InferenceRequest) -> InvalidInput | None:
    text = str(error)
    found = next((hit for hit in (pattern.search(text) for pattern in _REFUSALS) if hit), None)
    if found is None:
        return None
    return InvalidInput(
        f"the model cannot take {array_inputs.describe(request)}: {shorten(found.group(), 160)}"
    )

"""Keras 3 models from a `.keras` or `.h5` file, on any of Keras' backends."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from typing import Any

import numpy as np

from headrace.errors import InvalidInput, InvalidModel, MissingDependency, shorten
from headrace.model import Model, declared
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.runtimes import artefact, catalog
from headrace.runtimes.tensors import array_inputs
from headrace.runtimes.tensors.array_inputs import Spec

FILES = ("model.keras", "model.h5", "data/model.keras")
_BACKENDS = ("torch", "jax", "tensorflow")
_NAMES = {np.dtype(row.numpy).name: name for name, row in DATATYPES.items() if row.itemsize}


class KerasRuntime(Model):
    """Serve a Keras model. Inputs and outputs have the names, types and shapes of its layers.

    `extra["backend"]` (or `KERAS_BACKEND`) is `torch`, `jax` or `tensorflow`, by default the
    first of them that is installed. A file with code in it, such as a Lambda layer, is refused
    unless `extra["safe_mode"]` is false. `extra["custom_objects"]` is the path of a pickled dict
    of the model's own layers and functions. `extra["batchable"]` promises independent rows.
    """

    platform = "keras"

    def load(self) -> None:
        extra = self.settings.extra
        _choose_backend(extra.get("backend"))
        keras = artefact.require("keras", "keras")
        path = artefact.locate(self.settings, FILES)
        safe = extra.get("safe_mode", True) is not False
        what = f"the Keras model '{self.settings.name}'"
        objects = extra.get("custom_objects")

        def read() -> Any:
            custom = None
            if objects:
                custom = artefact.load_pickle(objects, "cloudpickle", self.settings)
            return keras.saving.load_model(
                path, compile=False, safe_mode=safe, custom_objects=custom
            )

        self._model = artefact.read(what, read)
        if not self._model.inputs and not self.settings.inputs:
            raise InvalidModel(f"{what} does not know its inputs; declare them in its settings")
        given = [_spec(tensor) for tensor in self._model.inputs or ()]
        self._specs = array_inputs.declared_specs(self.settings) or given
        self._names = [spec.name for spec in given] or [spec.name for spec in self._specs]
        self._outputs = declared(self.settings.outputs) or [
            TensorMetadata(_name(self._model, index, tensor), *_form(tensor))
            for index, tensor in enumerate(self._model.outputs or ())
        ]
        self.row_independent = array_inputs.is_batchable(self.settings, self._specs)

    def unload(self) -> None:
        self._model = None
        gc.collect()

    def metadata(self) -> ModelMetadata:
        import keras

        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=[spec.metadata() for spec in self._specs],
            outputs=self._outputs,
            parameters={"backend": keras.config.backend(), "device": _device(self._model)},
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Call the model in inference mode, outside of Keras' own loop over batches.

        Raises:
            InvalidInput: an input is missing, unknown, or of another datatype or shape.
        """
        arrays = array_inputs.take(request, self._specs)
        values = [arrays[spec.name] for spec in self._specs]
        try:
            found = self._call(values[0] if len(values) == 1 else self._arranged(values))
        except ValueError as error:
            if "incompatible with the layer" not in str(error):
                raise
            raise InvalidInput(
                f"the model's layers do not take {array_inputs.describe(request)}"
            ) from error
        names = [] if isinstance(found, dict) else [output.name for output in self._outputs]
        return array_inputs.answer(found, names, request.outputs)

    def _call(self, value: Any) -> Any:
        import keras

        if keras.config.backend() == "torch":
            import torch

            with torch.inference_mode():
                found = self._model(value, training=False)
        else:
            found = self._model(value, training=False)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, found)

    def _arranged(self, values: list[Any]) -> Any:
        """Several inputs in the form that the model was built with: a dict or a list."""
        by_name = dict(zip(self._names, values))
        structure = getattr(self._model, "_inputs_struct", None)
        return by_name if isinstance(structure, dict) else values


def _choose_backend(wanted: str | None) -> None:
    """Set Keras' backend before its first import, which fixes it for the process."""
    wanted = wanted or os.environ.get("KERAS_BACKEND")
    if wanted is not None and wanted not in _BACKENDS:
        raise InvalidModel(
            f"the Keras backend '{shorten(wanted)}' is not supported here, only "
            f"{', '.join(_BACKENDS)}"
        )
    if sys.modules.get("keras") is not None:
        current = str(sys.modules["keras"].config.backend())
        if wanted is not None and wanted != current:
            raise InvalidModel(f"this worker's Keras already runs on '{current}', not '{wanted}'")
        return
    if wanted is None:
        wanted = next((name for name in _BACKENDS if importlib.util.find_spec(name)), None)
    if wanted is None or not importlib.util.find_spec(wanted):
        raise MissingDependency(
            f"Keras needs {wanted or 'one of ' + ', '.join(_BACKENDS)}: "
            f"{catalog.named('keras').install}"
        )
    os.environ["KERAS_BACKEND"] = wanted


def _spec(tensor: Any) -> Spec:
    return Spec(tensor.name, *_form(tensor))


def _form(tensor: Any) -> tuple[str, list[int]]:
    datatype = _NAMES.get(str(tensor.dtype), "BYTES" if str(tensor.dtype) == "string" else "FP32")
    return datatype, [-1 if size is None else int(size) for size in tensor.shape]


def _name(model: Any, index: int, tensor: Any) -> str:
    """The name of the output's layer, because that of the tensor is made up."""
    names = getattr(model, "output_names", None) or ()
    return str(names[index]) if index < len(names) else str(tensor.name)


def _device(model: Any) -> str:
    for weight in model.weights:
        device = getattr(weight.value, "device", None)
        if device is not None:
            return str(device)
    return "cpu"

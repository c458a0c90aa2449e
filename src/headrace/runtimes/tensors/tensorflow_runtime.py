"""TensorFlow models from a SavedModel folder, through one of its signatures."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np

from headrace.errors import InvalidInput, InvalidModel, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.runtimes import artefact
from headrace.runtimes.tensors import array_inputs
from headrace.runtimes.tensors.array_inputs import Spec

FOLDERS = ("", "model", "saved_model", "tf2model", "data/model")
_NAMES = {np.dtype(row.numpy).name: name for name, row in DATATYPES.items() if row.itemsize}


class TensorFlowRuntime(Model):
    """Serve a SavedModel. Inputs and outputs are those of its signature.

    `extra["signature"]` names it; the default is `serving_default`. `extra["batchable"]`
    promises independent rows.
    """

    platform = "tensorflow"

    def load(self) -> None:
        tensorflow = artefact.require("tensorflow", "tensorflow")
        what = f"the SavedModel '{self.settings.name}'"
        root = artefact.folder_or_file(self.settings)
        folders = [os.path.join(root, name) for name in FOLDERS]
        found = [f for f in folders if os.path.isfile(os.path.join(f, "saved_model.pb"))]
        if not found:
            raise InvalidModel(f"{what}: found no saved_model.pb in its folder")
        # The functions of a SavedModel die with the object that they were loaded with.
        self._model = artefact.read(what, lambda: tensorflow.saved_model.load(found[0]))
        name = self.settings.extra.get("signature") or "serving_default"
        self._function = self._model.signatures.get(name)
        if self._function is None:
            raise InvalidModel(
                f"{what} has no signature '{shorten(name)}', only "
                f"{listing(list(self._model.signatures)) or 'none'}"
            )
        _, inputs = self._function.structured_input_signature
        self._specs = array_inputs.declared_specs(self.settings) or [
            Spec(name, *_form(spec)) for name, spec in sorted(inputs.items())
        ]
        self._outputs = declared(self.settings.outputs) or [
            TensorMetadata(name, *_form(spec))
            for name, spec in sorted(self._function.structured_outputs.items())
        ]
        self.row_independent = array_inputs.is_batchable(self.settings, self._specs)

    def unload(self) -> None:
        self._model = self._function = None
        gc.collect()

    def metadata(self) -> ModelMetadata:
        import tensorflow

        device = "gpu" if tensorflow.config.list_physical_devices("GPU") else "cpu"
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=[spec.metadata() for spec in self._specs],
            outputs=self._outputs,
            parameters={"device": device},
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Call the signature with the inputs by name.

        Raises:
            InvalidInput: an input is missing, unknown, or of another datatype or shape.
        """
        import tensorflow

        arrays = array_inputs.take(request, self._specs)
        tensors = {name: tensorflow.constant(_plain(array)) for name, array in arrays.items()}
        try:
            found = self._function(**tensors)
        except tensorflow.errors.InvalidArgumentError as error:
            raise InvalidInput(
                f"the model's operations do not take {array_inputs.describe(request)}"
            ) from error
        answers = {name: _text(tensor.numpy()) for name, tensor in sorted(found.items())}
        return array_inputs.answer(answers, [], request.outputs)


def _form(spec: Any) -> tuple[str, list[int]]:
    shape = [-1] if spec.shape.rank is None else [-1 if s is None else s for s in spec.shape]
    return _NAMES.get(spec.dtype.name, "BYTES"), shape


def _plain(array: Any) -> Any:
    return array.tolist() if array.dtype.kind == "O" else array


def _text(array: Any) -> Any:
    """TensorFlow's strings are bytes; an array of UTF-8 is returned as text."""
    if array.dtype.kind != "O":
        return array
    try:
        texts = [item.decode("utf-8") for item in array.ravel().tolist()]
    except UnicodeDecodeError:
        return array
    return np.array(texts, dtype=object).reshape(array.shape)

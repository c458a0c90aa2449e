"""MLflow's ONNX flavor without MLflow: its options, and its conversions of input and output."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.errors import InvalidInput, listing
from headrace.protocol.mlflow.signature import Signature
from headrace.runtimes import artefact
from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder
from headrace.runtimes.tensors import onnx_runtime, onnx_session

_PROVIDERS = ("CUDAExecutionProvider", onnx_session.CPU)


class MLflowGraph:
    """A graph that takes a table, an array or a dict of arrays, as MLflow's wrapper does.

    A table is answered with a table, whose columns are the flattened outputs; everything else
    with a dict of arrays.
    """

    def __init__(self, session: Any, takes_tables: bool) -> None:
        self._session = session
        self._inputs = {node.name: node.type for node in session.get_inputs()}
        self._outputs = [node.name for node in session.get_outputs()]
        # Flattening an output of several columns turns one row into several.
        self.row_independent = onnx_runtime.rows_are_free(session) and not (
            takes_tables and any(map(_is_wide, session.get_outputs()))
        )

    def predict(self, value: Any) -> Any:
        """Run the graph.

        Raises:
            InvalidInput: an input is missing or unknown, or the graph does not take it.
        """
        feed = self._feed(value)
        if set(feed) != set(self._inputs):
            raise InvalidInput(
                f"the model takes the inputs {listing(list(self._inputs))}, "
                f"got {listing([str(name) for name in feed])}"
            )
        for name, array in feed.items():
            if self._inputs[name] == "tensor(float)" and array.dtype == np.float64:
                feed[name] = array.astype(np.float32)
        answers = onnx_runtime.run(self._session, self._outputs, feed)
        if not hasattr(value, "columns"):
            return dict(zip(self._outputs, answers))
        import pandas as pd

        flat = [np.asarray(answer).reshape(-1) for answer in answers]
        return pd.DataFrame(dict(zip(self._outputs, flat)))

    def _feed(self, value: Any) -> dict[str, Any]:
        names = list(self._inputs)
        if isinstance(value, dict):
            return dict(value)
        if hasattr(value, "columns") and len(names) > 1:
            return {name: value[name].to_numpy() for name in names if name in value.columns}
        if len(names) > 1 or not (hasattr(value, "columns") or isinstance(value, np.ndarray)):
            raise InvalidInput(f"the model takes the inputs {listing(names)}, each an array")
        return {names[0]: value.to_numpy() if hasattr(value, "columns") else value}


def load(folder: MLflowFolder) -> MLflowGraph | None:
    """The graph of a model with the ONNX flavor, or None if its options are unusual.

    Raises:
        InvalidModel: the file is not an ONNX model.
    """
    flavor = folder.flavors.get("onnx")
    if not flavor or not flavor.get("data"):
        return None
    providers = flavor.get("providers") or list(_PROVIDERS)
    if not isinstance(providers, list) or not all(isinstance(name, str) for name in providers):
        return None
    options = dict(flavor.get("onnx_session_options") or {})
    entries = options.pop("extra_session_config", None)
    available = artefact.require("onnxruntime", "onnx").get_available_providers()
    usable = [name for name in providers if name in available]
    extra = {
        "providers": list(dict.fromkeys([*usable, onnx_session.CPU])),
        "session_options": {key: value for key, value in options.items() if value},
        "session_config_entries": entries,
    }
    session = onnx_session.open_session(folder.file(flavor["data"]), extra, "the ONNX model")
    raw = folder.signature()
    signature = Signature.parse(raw) if raw else None
    return MLflowGraph(session, signature is None or not signature.is_tensors)


def _is_wide(node: Any) -> bool:
    return len(node.shape) > 1 and list(node.shape[1:]) != [1]

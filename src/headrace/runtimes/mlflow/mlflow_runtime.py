"""MLflow models, loaded natively where their flavor allows it, and otherwise through pyfunc."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Callable

import numpy as np

from headrace.codecs import decode_value, encode_response, values
from headrace.codecs.array import array_of
from headrace.codecs.frame import block_of_columns, block_of_matrix, frame_of, frame_of_matrix
from headrace.codecs.registry import OUTPUT, chosen
from headrace.errors import (
    IN_LOG,
    HeadraceError,
    InvalidInput,
    InvalidModel,
    Unimplemented,
    shorten,
)
from headrace.model import Model, declared
from headrace.protocol.messages import TASK, InferenceRequest, InferenceResponse, ModelMetadata
from headrace.protocol.mlflow.signature import PASSED_OVER, READS, SCORING, Signature
from headrace.protocol.reserved_parameters import RESERVED
from headrace.protocol.tensor import Tensor
from headrace.runtimes import refusal, trust
from headrace.runtimes.mlflow import input_example, native_flavors, pyfunc, table_checks
from headrace.runtimes.mlflow.agents import Agent
from headrace.runtimes.mlflow.collected_words import CollectedWords
from headrace.runtimes.mlflow.hinted_values import hinted_values
from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder
from headrace.runtimes.mlflow.native_flavors import Predict
from headrace.runtimes.mlflow.scoring_payload import Payload

logger = logging.getLogger("headrace.worker")

# Requests that an agent works on at once, unless its settings say otherwise. MLflow's own server
# uses as many threads, so agents are used to it.
CONCURRENCY = 32


class MLflowRuntime(Model):
    """Serve a local MLflow model folder, with the answers of `mlflow.pyfunc`.

    The signature decides what the model gets: a DataFrame, an array or a dict of arrays. A
    model without one gets what the request's content type names. A request whose content
    type is `mlflow` holds a body of MLflow's scoring protocol.

    `extra["methods"]` names methods of the model inside, such as `predict_proba`: a request whose
    only output is one of them is answered by it. `extra["predict_fn"]` names the one that answers
    other requests, by default `predict`. `extra["batchable"]` promises independent rows.
    """

    platform = "mlflow"
    decodes_scoring = True

    def load(self) -> None:
        folder = MLflowFolder(self.settings)
        raw = folder.signature()
        self._raw_signature = raw
        self._signature = Signature.parse(raw) if raw else None
        is_trusted = self.settings.trust != trust.FORMATS
        if is_trusted:
            folder.add_code()
        self._predict_stream = self._agent = self._loop = None
        native = native_flavors.load(folder)
        if native is not None:
            self._predict = native.predict
            self._methods = self._methods_of(lambda: native.model)
        elif not is_trusted:
            # What `MLmodel` says may have changed since it was checked.
            raise trust.refusal(self.settings, "is loaded by MLflow, which may run code")
        else:
            config = self.settings.extra.get("model_config")
            loaded = pyfunc.load(folder, config)
            self._predict, self._predict_stream = loaded.predict, loaded.predict_stream
            self._loop = loaded.loop
            if folder.is_agent:
                self._agent = Agent(folder.task)
            self._methods = self._methods_of(loaded.native)
        self._task = folder.task
        self._takes_one_row = native is None and folder.takes_one_conversation
        self._columns = _columns(self._signature)
        self._predict_array = _predict_array(native, self._signature)
        specs = self._signature.inputs if self._signature else []
        self._kinds = {
            spec.name: spec.content_type for spec in specs if spec.type in ("datetime", "binary")
        }
        self._mixed = {spec.name for spec in specs if spec.mixed}
        schemas = _schemas(raw)
        self._fixed_width = {
            name
            for name, row in schemas.items()
            if str((row.get("tensor-spec") or {}).get("dtype")).startswith("str")
        }
        self._payload = Payload(self._signature, schemas, self._typed)
        self._passed_over = CollectedWords()
        tolerant = Signature.parse(raw, self._passed_over.add) if raw else None
        self._tolerant_payload = Payload(tolerant, schemas, self._typed)
        self._example = input_example.shown(folder)
        # Instances of the class differ: only the native flavors promise independent rows.
        by_flavor = native is not None and native.row_independent
        self.row_independent = by_flavor or bool(self.settings.extra.get("batchable"))
        if self.row_independent:
            self.row_independent = self._holds_promise(folder)
        # The answer of an agent costs money, and depends on other services.
        if self.settings.must_answer_example and self._agent is None:
            self._answer_example(folder)

    def _methods_of(self, model: Callable[[], Any]) -> dict[str, Predict]:
        """The methods of the model inside that may be asked for, and `predict`.

        Raises:
            InvalidModel: it lacks one of them.
        """
        extra = self.settings.extra
        names = [*(extra.get("methods") or ()), *filter(None, [extra.get("predict_fn")])]
        found: dict[str, Predict] = {"predict": self._predict}
        inner = model() if set(names) - {"predict"} else None
        for name in names:
            if name in found:
                continue
            method = getattr(inner, name, None)
            if not callable(method):
                raise InvalidModel(
                    f"the MLflow model '{self.settings.name}' has no method '{shorten(name)}'"
                )
            found[name] = _without_params(method)
        return found

    def _holds_promise(self, folder: MLflowFolder) -> bool:
        """Whether the input example confirms the flavor's promise, or there is no example."""
        example = input_example.request_of(folder)
        if example is None:
            return True
        logger.info("warming up with its input example", extra={"model": self.settings.name})
        try:
            value, params = self._payload.decode(example)
        except HeadraceError as error:
            logger.warning(
                "the input example saved with the model cannot be decoded: %s", error.message
            )
            return True
        if input_example.rows_are_independent(self._predict, value, params):
            return True
        logger.warning(
            "model '%s' answers rows of its input example differently together than alone; "
            "its requests are not merged into batches",
            self.settings.name,
        )
        return False

    def _answer_example(self, folder: MLflowFolder) -> None:
        """Answer the input example as if a caller had sent it.

        Raises:
            InvalidModel: that fails.
        """
        example = input_example.request_of(folder)
        if example is None:
            return
        try:
            self.infer(example)
        except Exception as error:
            why = f"{type(error).__name__} was raised; {IN_LOG}"
            if isinstance(error, HeadraceError):
                why = error.message
            raise InvalidModel(f"the input example logged with it fails: {why}") from error

    @property
    def _can_stream(self) -> bool:
        """Whether the model was logged with a `predict_stream`."""
        return self._predict_stream is not None

    def unload(self) -> None:
        if self._loop is not None:
            self._loop.close()
        del self._predict, self._predict_stream, self._methods, self._loop

    def metadata(self) -> ModelMetadata:
        signature = self._signature
        content_type = self.settings.content_type
        inputs, outputs = declared(self.settings.inputs), declared(self.settings.outputs)
        if signature is not None and signature.inputs:
            inputs, content_type = signature.input_metadata(), signature.content_type
        if signature is not None and signature.outputs:
            outputs = signature.output_metadata()
        parameters = {"content_type": content_type} if content_type else {}
        if self._task:
            parameters[TASK] = self._task
        if self._agent is not None:
            parameters["mlflow_version"] = self._agent.mlflow_version
        is_concurrent = self._loop is not None or self._agent is not None
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=inputs,
            outputs=outputs,
            parameters=parameters,
            row_independent=self.row_independent,
            signature=self._raw_signature,
            takes_headers=self._agent is not None,
            concurrency=CONCURRENCY if is_concurrent else 1,
            example=self._example,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer a request that already conforms to the signature, or a raw scoring body.

        Raises:
            InvalidInput: a body, column or tensor does not fit the signature, or the model has
                no such output as requested.
            BadModelOutput: the model's answer cannot be sent.
        """
        wanted, extra = request.outputs, self.settings.extra
        name = extra.get("predict_fn") or "predict"
        if name == "predict" and not wanted and self._predict_array is not None:
            answer = self._of_array(request, self._predict_array)
            if answer is not None:
                return _encode(answer)
        if wanted and len(wanted) == 1 and wanted[0] in (extra.get("methods") or ()):
            name, wanted = wanted[0], None
        predict, arguments = self._methods[name], self._arguments_of(request)
        passed_over = self._passed_over.taken()
        if self._agent is None:
            answer = predict(*arguments)
        else:
            answer = self._agent.call(predict, arguments, _headers(request))
        response = chosen(_encode(answer, OUTPUT if name == "predict" else name), wanted)
        return _reported(response, passed_over)

    def infer_stream(self, request: InferenceRequest) -> Iterator[InferenceResponse]:
        """The pieces that the model's `predict_stream` yields; raises what `infer` raises."""
        if self._predict_stream is None:
            raise Unimplemented(f"model '{self.settings.name}' does not stream answers")
        predict, arguments = self._predict_stream, self._arguments_of(request)
        passed_over = self._passed_over.taken()
        if self._agent is None:
            pieces = predict(*arguments)
        else:
            pieces = self._agent.stream(predict, arguments, _headers(request))
        for piece in pieces:
            yield _reported(chosen(_encode(piece), request.outputs), passed_over)
            passed_over = {}

    def _of_array(self, request: InferenceRequest, predict: Callable[[Any], Any]) -> Any:
        """The answer to a table of numbers, without making the table; None to take the usual way.

        So do numbers that the model refuses, of which the usual way says which column they are in.
        """
        signature, tensors = self._signature, request.inputs
        assert signature is not None
        block: np.ndarray[Any, Any] | None
        if signature.is_matrix(tensors):
            block = block_of_matrix(tensors[0])
        elif len(tensors) == len(signature.inputs) > 0:
            block = block_of_columns(tensors)
        else:
            return None
        with suppress(Exception):
            return None if block is None else predict(block)

    def _arguments_of(self, request: InferenceRequest) -> tuple[Any, dict[str, Any] | None]:
        """What `predict` takes: the value, and the params."""
        try:
            return self._decoded(request)
        except RecursionError:
            raise InvalidInput("the request nests too deeply") from None

    def _decoded(self, request: InferenceRequest) -> tuple[Any, dict[str, Any] | None]:
        if request.content_type == SCORING:
            assert request.parameters is not None
            # Those of a request that was refused.
            self._passed_over.taken()
            reads = request.parameters.get(READS)
            payload = self._payload if reads is None else self._tolerant_payload
            arguments = payload.decode(request)
        else:
            arguments = self._value(request), self._params(request.parameters)
        if self._takes_one_row and hasattr(arguments[0], "iloc"):
            table_checks.check_one_row(arguments[0], self.settings.name)
        return arguments

    def _params(self, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        """The params of the schema; without a schema MLflow drops all that were given."""
        given = {name: v for name, v in (parameters or {}).items() if name not in RESERVED}
        declared = self._signature is not None and self._signature.params is not None
        return (given if declared else {}) if given else None

    def _value(self, request: InferenceRequest) -> Any:
        signature = self._signature
        if signature is not None and signature.from_type_hint:
            return self._listed(request.inputs)
        if signature is not None and signature.inputs:
            return self._typed(request)
        kind = request.content_type or self.settings.content_type
        if kind is None and len(request.inputs) > 1:
            kind = "pd" if importlib.util.find_spec("pandas") else "dict"
        return decode_value(request, kind)

    def _listed(self, tensors: list[Tensor]) -> Any:
        """Plain Python values for a model that checks its own type hints."""
        signature = self._signature
        assert signature is not None
        if len(tensors) == 1:
            values = hinted_values(tensors[0], signature.inputs[0])
            from_json = tensors[0].datatype == "BYTES"
            return self._payload.whole(values, signature.names[0], from_json)
        return {tensor.name: array_of(tensor).tolist() for tensor in tensors}

    def _typed(self, request: InferenceRequest) -> Any:
        """The value in the form that the signature's schema takes."""
        signature = self._signature
        assert signature is not None
        tensors = request.inputs
        if signature.is_columns:
            columns = self._columns
            if signature.is_matrix(tensors):
                return frame_of_matrix(tensors[0], columns)
            if len(tensors) != len(signature.inputs):
                present = {tensor.name for tensor in tensors}
                columns = columns[[name in present for name in signature.names]]
            frame = frame_of(tensors, self._kinds, columns)
            if self._payload.nested is not None:
                self._payload.nested.fit(frame)
            return frame
        if signature.is_named:
            return {tensor.name: self._array(tensor) for tensor in tensors}
        return self._array(tensors[0])

    def _array(self, tensor: Tensor) -> Any:
        array = array_of(tensor, writable=True)
        if array.dtype.kind == "O":
            return array.astype(str) if tensor.name in self._fixed_width else array
        return array.astype(object) if tensor.name in self._mixed else array


def _reported(response: InferenceResponse, words: dict[str, list[str]]) -> InferenceResponse:
    """The answer, with the words of its request that were passed over."""
    if words:
        response.parameters = {**(response.parameters or {}), PASSED_OVER: words}
    return response


def _headers(request: InferenceRequest) -> dict[str, str]:
    """The header fields of the request, with lower-case names."""
    headers: dict[str, str] = (request.context or {}).get("headers") or {}
    return headers


def _without_params(method: Callable[[Any], Any]) -> Predict:
    return lambda value, params: refusal.call(method, value)


def _columns(signature: Signature | None) -> Any:
    """The names that the DataFrame's columns get: those the model was trained with."""
    if signature is None or not signature.is_columns:
        return None
    import pandas as pd

    if not signature.is_named:
        return pd.RangeIndex(len(signature.inputs))
    return pd.Index(_labels(signature))


def _labels(signature: Signature) -> list[Any]:
    if not signature.is_named:
        return list(range(len(signature.inputs)))
    return [spec.name if spec.label is None else spec.label for spec in signature.inputs]


def _predict_array(
    native: native_flavors.Native | None, signature: Signature | None
) -> Callable[[Any], Any] | None:
    """What answers an array in place of a table with the signature's columns, if anything does."""
    if native is None or signature is None or not signature.is_columns:
        return None
    return native.for_arrays(_labels(signature))


def _schemas(raw: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The types of the inputs as written in `MLmodel`, by their names on the wire."""
    inputs = (raw or {}).get("inputs") or []
    rows: list[dict[str, Any]] = json.loads(inputs) if isinstance(inputs, str) else inputs
    return {
        f"input-{index}" if row.get("name") is None else str(row["name"]): row
        for index, row in enumerate(rows)
    }


def _encode(answer: Any, name: str = OUTPUT) -> InferenceResponse:
    """The answer as MLflow would show it: scalars stay scalars, Series become tables."""
    form = values.form_of(answer)
    if isinstance(answer, (str, bytes, bytearray)):
        answer = np.array(bytes(answer) if isinstance(answer, bytearray) else answer, dtype=object)
    elif isinstance(answer, (bool, int, float, np.generic)):
        answer = np.array(answer)
    elif hasattr(answer, "to_frame") and hasattr(answer, "iloc"):
        answer = answer.to_frame()
    response = encode_response(answer, name)
    response.form = form
    return response

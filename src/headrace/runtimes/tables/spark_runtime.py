"""Spark MLlib models from a folder that Spark saved: pipelines, their stages, and RDD models."""

from __future__ import annotations

import glob
import importlib
import json
import os
import re
from typing import Any

import numpy as np

from headrace.codecs.array import array_of
from headrace.errors import InvalidInput, InvalidModel, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.runtimes import artefact
from headrace.runtimes.tensors import array_inputs
from headrace.runtimes.tensors.array_inputs import Spec

FOLDERS = ("", "sparkml", "model")
PREDICTION = "prediction"
_CLASS = re.compile(r"(?:org\.apache\.spark|pyspark)\.(ml|mllib)\.[A-Za-z.]+")


class SparkRuntime(Model):
    """Serve an MLlib model with a Spark session inside the worker, which needs Java.

    The inputs are the columns that the pipeline reads; one of two dimensions becomes a column
    of vectors. The output is `prediction`, or whichever columns of the answer the request asks
    for. `extra["threads"]` is the number of threads of Spark, by default 1. `extra["batchable"]`
    promises independent rows.
    """

    platform = "spark"

    def load(self) -> None:
        artefact.require("pyspark", "spark")
        what = f"the Spark model '{self.settings.name}'"
        folder, name = _find(artefact.folder_or_file(self.settings), what)
        self._session = artefact.read("the Spark session", self._start)
        self._is_rdd = ".mllib." in name
        self._model = artefact.read(what, lambda: _load(self._session, folder, name))
        needed = ["features"] if self._is_rdd else _needed(self._model)
        self._specs = array_inputs.declared_specs(self.settings) or [Spec(n) for n in needed]
        self.row_independent = array_inputs.is_batchable(self.settings, self._specs)

    def unload(self) -> None:
        # The session stays: other models of this worker may use it, and it ends with the worker.
        self._model = None

    def metadata(self) -> ModelMetadata:
        outputs = [TensorMetadata(PREDICTION, "FP64", [-1])]
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=[spec.metadata("FP64") for spec in self._specs],
            outputs=declared(self.settings.outputs) or outputs,
            parameters={"device": "cpu"},
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer with the prediction of each row, or with the wanted columns.

        Raises:
            InvalidInput: a column is missing, unknown or of another length, an output is not
                a column of the answer, or Spark refuses the columns' types.
        """
        columns = self._columns(request)
        if self._is_rdd:
            rows = np.asarray(next(iter(columns.values())), np.float64)
            values = [self._model.predict(row) for row in np.atleast_2d(rows)]
            return array_inputs.answer({PREDICTION: np.array(values)}, [], request.outputs)
        from pyspark.errors import AnalysisException, IllegalArgumentException

        try:
            return self._transform(columns, request.outputs)
        except (AnalysisException, IllegalArgumentException) as error:
            raise InvalidInput(
                f"the model does not take {array_inputs.describe(request)}"
            ) from error

    def _transform(self, columns: dict[str, Any], wanted: list[str] | None) -> InferenceResponse:
        cells = [_cells(column) for column in columns.values()]
        table = self._session.createDataFrame(list(zip(*cells)), list(columns))
        answer = self._model.transform(table)
        made = [name for name in answer.columns if name not in columns]
        chosen = wanted or ([PREDICTION] if PREDICTION in made else made)
        for name in chosen:
            if name not in made:
                raise InvalidInput(
                    f"output '{shorten(name)}' is not available, this model has {listing(made)}"
                )
        rows = answer.select(*[f"`{name}`" for name in chosen]).collect()
        return array_inputs.answer(
            {name: _stacked([row[name] for row in rows]) for name in chosen}, []
        )

    def _columns(self, request: InferenceRequest) -> dict[str, Any]:
        columns = {tensor.name: array_of(tensor) for tensor in request.inputs}
        names = [spec.name for spec in self._specs]
        if len(columns) == 1 and len(names) == 1:
            columns = {names[0]: next(iter(columns.values()))}
        unknown = [name for name in columns if names and name not in names]
        missing = [name for name in names if name not in columns]
        if unknown or missing:
            raise InvalidInput(
                f"the model takes columns {listing(names)}, got {listing(list(columns))}"
            )
        lengths = {column.shape[0] if column.ndim else 1 for column in columns.values()}
        if len(lengths) != 1 or 0 in lengths or any(c.ndim > 2 for c in columns.values()):
            raise InvalidInput(
                f"the columns must have the same number of rows, at least one: "
                f"got {array_inputs.describe(request)}"
            )
        return columns

    def _start(self) -> Any:
        from pyspark.sql import SparkSession

        threads = int(self.settings.extra.get("threads") or 1)
        return (
            SparkSession.builder.master(f"local[{threads}]")
            .appName("headrace")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.sql.shuffle.partitions", str(threads))
            .getOrCreate()
        )


def _find(root: str, what: str) -> tuple[str, str]:
    """The folder that Spark wrote and the class that its metadata names."""
    for folder in [os.path.join(root, name) for name in FOLDERS]:
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), "metadata", "part-*"))):
            with open(path, encoding="utf-8") as file:
                line = file.readline()
            try:
                name = str(json.loads(line)["class"])
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidModel(f"{what} could not be read: its metadata is broken") from error
            if not _CLASS.fullmatch(name):
                raise InvalidModel(
                    f"{what} is of class '{shorten(name)}', which is not one of MLlib's"
                )
            return folder, name
    raise InvalidModel(f"{what}: Spark did not save its folder, which has no metadata")


def _load(session: Any, folder: str, name: str) -> Any:
    module, _, attribute = name.replace("org.apache.spark", "pyspark").rpartition(".")
    cls = getattr(importlib.import_module(module), attribute)
    uri = "file://" + os.path.abspath(folder)
    return cls.load(session.sparkContext, uri) if ".mllib." in name else cls.load(uri)


def _needed(model: Any) -> list[str]:
    """The columns that the stages read but none of them creates, in the order they are read."""
    made: set[str] = set()
    needed: list[str] = []
    for stage in getattr(model, "stages", None) or [model]:
        needed += [
            name
            for name in _of(stage, "inputCols", "inputCol", "featuresCol")
            if name not in made and name not in needed
        ]
        made |= set(_of(stage, "outputCols", "outputCol", "predictionCol", "probabilityCol"))
    return needed


def _of(stage: Any, *params: str) -> list[str]:
    names: list[str] = []
    for param in params:
        if stage.hasParam(param) and stage.isDefined(param):
            value = stage.getOrDefault(param)
            names += [value] if isinstance(value, str) else value
    return names


def _cells(column: Any) -> list[Any]:
    if column.ndim < 2:
        values: list[Any] = np.atleast_1d(column).tolist()
        return values
    from pyspark.ml.linalg import Vectors

    return [Vectors.dense(row) for row in column]


def _stacked(values: list[Any]) -> Any:
    return np.array([value.toArray() if hasattr(value, "toArray") else value for value in values])

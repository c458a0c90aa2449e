"""The names that projects written for MLServer use."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.compat.mlserver import types
from headrace.compat.mlserver.codecs.lists import ListElement
from headrace.compat.mlserver.codecs.numpy import to_datatype, to_dtype
from headrace.compat.mlserver.codecs.utils import InputOrOutput
from headrace.runtimes import catalog


@pytest.mark.parametrize(
    ("package", "module", "name"),
    [
        ("mlserver_sklearn", "sklearn", "SKLearnModel"),
        ("mlserver_xgboost", "xgboost", "XGBoostModel"),
        ("mlserver_lightgbm", "lightgbm", "LightGBMModel"),
        ("mlserver_catboost", "catboost", "CatboostModel"),
        ("mlserver_mlflow", "runtime", "MLflowRuntime"),
        ("mlserver_huggingface", "runtime", "HuggingFaceRuntime"),
        ("mlserver_mllib", "mllib", "MLlibModel"),
    ],
)
def test_a_runtime_of_mlserver_may_be_named_by_its_module(package, module, name):
    found = catalog.find(f"{package}.{module}.{name}")

    assert found is not None
    assert found == catalog.find(f"{package}.{name}")


def test_codecs_of_users_find_the_types_they_annotate_with():
    assert InputOrOutput.__args__ == (types.RequestInput, types.ResponseOutput)
    assert ListElement.__name__ == "ListElement"


@pytest.mark.parametrize(
    ("datatype", "data", "dtype"),
    [
        ("BOOL", [True], "bool"),
        ("UINT8", [1], "uint8"),
        ("INT64", [1], "int64"),
        ("FP16", [1], "float16"),
        ("FP32", [1], "float32"),
        ("BYTES", ["a"], "str"),
        ("BYTES", [b"abc"], "S3"),
    ],
)
def test_codecs_of_users_find_the_dtype_of_a_tensor_and_back(datatype, data, dtype):
    item = types.RequestInput(name="x", datatype=datatype, shape=[1, 3], data=data)

    assert to_dtype(item) == np.dtype(dtype)
    assert to_datatype(np.dtype(dtype)) == types.Datatype(datatype)

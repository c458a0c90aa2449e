"""MLflow model folders of many kinds, each under the name that the tests use."""

from __future__ import annotations

import json
import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import onnx
import pandas as pd
import xgboost

from support.wine import DATA, save_mlflow, trained, wines

MLMODEL_1 = """\
artifact_path: model
flavors:
  python_function: {data: model.pkl, env: conda.yaml, loader_module: mlflow.sklearn,
    python_version: 3.7.6}
  sklearn: {pickled_model: model.pkl, serialization_format: pickle, sklearn_version: 0.20.2}
run_id: 0123456789abcdef0123456789abcdef
utc_time_created: '2020-10-05 12:00:00.000000'
"""

MLMODEL_2 = """\
artifact_path: model
flavors:
  python_function:
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.10.12
  sklearn: {code: null, pickled_model: model.pkl, serialization_format: cloudpickle,
    sklearn_version: 1.3.2}
mlflow_version: 2.9.2
model_size_bytes: 833
model_uuid: 0123456789abcdef0123456789abcdef
run_id: 0123456789abcdef0123456789abcdef
signature:
  inputs: '%s'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
  params: null
utc_time_created: '2023-12-01 12:00:00.000000'
"""

FROM_CODE = """\
import mlflow

class FromCode(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["alcohol"] * 2

mlflow.models.set_model(FromCode())
"""

MIXED = pd.DataFrame(
    {
        "name": ["Mühle", ""],
        "count": [1, 2**53 + 1],
        "part": [0.1, -0.0],
        "flag": [True, False],
        "day": pd.to_datetime(["2020-01-02T03:04:05", "1969-12-31T23:59:59"]),
    }
)


def _old(folder: Path, mlmodel: str) -> None:
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(trained()))
    (folder / "MLmodel").write_text(mlmodel)
    (folder / "requirements.txt").write_text("scikit-learn\n")
    (folder / "conda.yaml").write_text("dependencies: [python, {pip: [scikit-learn]}]\n")


def _columns_2() -> str:
    return json.dumps([{"type": "double", "name": name, "required": True} for name in wines()])


def _xgboost(folder: Path, booster: bool) -> None:
    quality = pd.read_csv(DATA)["quality"]
    model = xgboost.XGBRegressor(n_estimators=5, max_depth=3).fit(wines(), quality)
    mlflow.xgboost.save_model(
        model.get_booster() if booster else model, str(folder), **_options(wines())
    )


def _lightgbm(folder: Path, booster: bool) -> None:
    quality = pd.read_csv(DATA)["quality"]
    model = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(wines(), quality)
    mlflow.lightgbm.save_model(
        model.booster_ if booster else model, str(folder), **_options(wines())
    )


def _onnx(folder: Path) -> None:
    weights = ", ".join(f"{number}.0" for number in range(11))
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> wine (float[N, 11] x) => (float[N, 1] y) '
        f"<float[11, 1] w = {{{weights}}}> {{ y = MatMul(x, w) }}"
    )
    mlflow.onnx.save_model(graph, str(folder), **_options(wines()))


def _options(table: Any, **signature: Any) -> dict[str, Any]:
    found = mlflow.models.infer_signature(table, **signature)
    return {"signature": found, "pip_requirements": ["numpy"]}


def _python(folder: Path) -> None:
    class Scaled(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input.sum(axis=1).to_numpy() * params["by"]

    options = _options(wines(), params={"by": 2.0})
    mlflow.pyfunc.save_model(str(folder), python_model=Scaled(), **options)


def _mixed(folder: Path) -> None:
    class Shown(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            kinds = {f"{name} is": str(kind) for name, kind in model_input.dtypes.items()}
            return model_input.drop(columns="day").assign(
                year=[day.year for day in model_input["day"]], **kinds
            )

    mlflow.pyfunc.save_model(str(folder), python_model=Shown(), **_options(MIXED))


def _chat(folder: Path) -> None:
    class Parrot(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return {"said": model_input["messages"][-1]["content"], "keys": sorted(model_input)}

    options = {"pip_requirements": ["numpy"]}
    mlflow.pyfunc.save_model(str(folder), python_model=Parrot(), **options)


def _from_code(folder: Path) -> None:
    source = folder.with_suffix(".py")
    source.write_text(textwrap.dedent(FROM_CODE))
    mlflow.pyfunc.save_model(str(folder), python_model=str(source), **_options(wines()))


def _array(folder: Path) -> None:
    rows = wines().to_numpy()
    mlflow.sklearn.save_model(trained(named=False), str(folder), **_options(rows))


MODELS: dict[str, Callable[[Path], Any]] = {
    "skops": lambda folder: save_mlflow(folder, serialization_format="skops"),
    "cloudpickle": lambda folder: save_mlflow(folder, serialization_format="cloudpickle"),
    "pickle": lambda folder: save_mlflow(folder, serialization_format="pickle"),
    "unsigned": lambda folder: save_mlflow(folder, signed=False),
    "booster": lambda folder: _xgboost(folder, booster=True),
    "xgbregressor": lambda folder: _xgboost(folder, booster=False),
    "lightgbm": lambda folder: _lightgbm(folder, booster=True),
    "lgbmregressor": lambda folder: _lightgbm(folder, booster=False),
    "onnx": _onnx,
    "python": _python,
    "from-code": _from_code,
    "mlflow-1": lambda folder: _old(folder, MLMODEL_1),
    "mlflow-2": lambda folder: _old(folder, MLMODEL_2 % _columns_2()),
    "array": _array,
    "mixed": _mixed,
    "chat": _chat,
}

# Those that take the eleven columns of the wines.
WINE_MODELS = [name for name in MODELS if name not in ("array", "mixed", "chat")]


def save_all(root: Path) -> None:
    """One folder per model under `root`, with the settings that give it its name."""
    for name, save in MODELS.items():
        save(root / name)
        settings = {"name": name, "implementation": "mlserver_mlflow.MLflowRuntime"}
        (root / name / "model-settings.json").write_text(json.dumps(settings))

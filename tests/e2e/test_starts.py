"""A folder of models starts every time: models in one worker do not break each other's imports."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import mlflow.sklearn
import numpy as np
import onnx
import pytest
import xgboost
from sklearn.linear_model import ElasticNet, LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from support.asking import ask
from support.rounds import ROUNDS, busy_machine
from support.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180 + 60 * ROUNDS)]

X = np.arange(24.0).reshape(12, 2) % 5
Y = X @ [2.0, -1.0]


def settings(folder: Path, implementation: str, **parameters: Any) -> Path:
    folder.mkdir(parents=True)
    described = {"name": folder.name, "implementation": implementation, "parameters": parameters}
    (folder / "model-settings.json").write_text(json.dumps(described))
    return folder


def write_joblib(folder: Path, estimator: Any) -> None:
    uri = "./model.joblib"
    settings(folder, "mlserver_sklearn.SKLearnModel", uri=uri)
    joblib.dump(estimator.fit(X, Y), folder / uri)


def write_mlflow(folder: Path) -> None:
    settings(folder, "mlserver_mlflow.MLflowRuntime", uri="./model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(Ridge().fit(X, Y), folder / "model")


def write_xgboost(folder: Path) -> None:
    settings(folder, "mlserver_xgboost.XGBoostModel", uri="./model.json")
    xgboost.XGBRegressor(n_estimators=2).fit(X, Y).save_model(folder / "model.json")


def write_lightgbm(folder: Path) -> None:
    settings(folder, "mlserver_lightgbm.LightGBMModel", uri="./model.bst")
    parameters = {"verbose": -1, "min_data_in_leaf": 1}
    lightgbm.train(parameters, lightgbm.Dataset(X, Y), 2).save_model(folder / "model.bst")


def write_onnx(folder: Path) -> None:
    settings(folder, "mlserver_onnx.OnnxModel", uri="./model.onnx")
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (double[N,2] x) => (double[N] y)\n'
        "<double[2] w = {2.0, -1.0}> { y = MatMul(x, w) }"
    )
    onnx.save(graph, folder / "model.onnx")


def write_many(root: Path) -> None:
    for number in range(25):
        write_joblib(root / f"sklearn-{number}", ElasticNet(alpha=0.01 * (number + 1)))
        write_xgboost(root / f"xgboost-{number}")


def write_three(root: Path) -> None:
    # All of one package, whose modules import each other.
    write_joblib(root / "elastic", ElasticNet())
    write_joblib(root / "line", LinearRegression())
    write_mlflow(root / "logged")


def write_four_frameworks(root: Path) -> None:
    write_joblib(root / "sklearn", make_pipeline(StandardScaler(), ElasticNet()))
    write_xgboost(root / "xgboost")
    write_lightgbm(root / "lightgbm")
    write_onnx(root / "onnx")


@pytest.mark.parametrize(
    ("write", "count"),
    [
        pytest.param(write_three, 3, id="three of scikit-learn"),
        pytest.param(write_four_frameworks, 4, id="four frameworks"),
        pytest.param(write_many, 50, id="fifty of two frameworks"),
    ],
)
def test_a_folder_of_models_starts_every_time(tmp_path: Path, write: Any, count: int) -> None:
    write(tmp_path)
    row = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [3.0, 4.0]}
    with busy_machine():
        for _ in range(ROUNDS):
            with serving(tmp_path, "--env-manager", "local") as server:
                index = ask(server.http, "POST", "/v2/repository/index").json
                states = {each["name"]: (each["state"], each["reason"]) for each in index}
                assert states == dict.fromkeys(states, ("READY", ""))
                assert len(states) == count
                assert "did not load" not in server.log()
                for name in states:
                    path = f"/v2/models/{name}/infer"
                    assert ask(server.http, "POST", path, {"inputs": [row]}).status == 200

"""Folders as two pages on MLServer describe them: two models, and a runtime of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.svm import SVC
from xgboost import XGBClassifier

RUNTIME = """\
import json
from collections import defaultdict

import numpy as np
from mlserver import MLModel, types
from mlserver.codecs import StringCodec
from mlserver.utils import get_model_uri


class SentimentModel(MLModel):
    async def load(self) -> bool:
        model_uri = await get_model_uri(self._settings)
        with open(model_uri) as file:
            self.weights = json.load(file)
        self.ready = True
        return self.ready

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        texts = defaultdict()
        for inp in payload.inputs:
            texts[inp.name] = json.loads("".join(self.decode(inp, default_codec=StringCodec)))
        good = sum(self.weights.get(word, 0.0) for word in texts["text"].split())
        prediction = np.exp([-good, good]) / np.exp([-good, good]).sum()
        return types.InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[
                types.ResponseOutput(
                    name="predictions",
                    shape=prediction.shape,
                    datatype="FP32",
                    data=np.asarray(prediction).tolist(),
                )
            ],
        )
"""
TEXT = "what a great film"


def write_fashion(root: Path) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """A support vector machine and boosted trees; returns rows, and what each says of them."""
    rows = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(int) + (rows[:, 1] > 0)
    svm, trees = SVC().fit(rows, labels), XGBClassifier(n_estimators=5).fit(rows, labels)
    files = {"sklearn": "Fashion-MNIST.joblib", "xgboost": "Fashion_MNIST.json"}
    classes = {"sklearn": "SKLearnModel", "xgboost": "XGBoostModel"}
    for name, file in files.items():
        folder = root / "models" / name
        folder.mkdir(parents=True)
        settings = {
            "name": f"fashion-{name}",
            "implementation": f"mlserver_{name}.{classes[name]}",
            "parameters": {"uri": f"./{file}", "version": "v1"},
        }
        (folder / "model-settings.json").write_text(json.dumps(settings))
    joblib.dump(svm, root / "models/sklearn" / files["sklearn"])
    trees.save_model(root / "models/xgboost" / files["xgboost"])
    (root / "settings.json").write_text('{"debug": "true", "server_name": "fashion"}')
    (root / "requirements.txt").write_text("mlserver\nmlserver-sklearn\nmlserver-xgboost\n")
    return rows, {"sklearn": svm.predict(rows), "xgboost": trees.predict(rows)}


def write_sentiment(root: Path) -> list[float]:
    """A runtime written for MLServer; returns what it says of `TEXT`."""
    (root / "sentiment_model.py").write_text(RUNTIME)
    (root / "weights.json").write_text('{"great": 1.5, "awful": -2.0}')
    settings = {
        "name": "sentiment",
        "implementation": "sentiment_model.SentimentModel",
        "parameters": {"uri": "./weights.json"},
    }
    (root / "model-settings.json").write_text(json.dumps(settings))
    (root / "settings.json").write_text('{"debug": "true"}')
    (root / "environment.yaml").write_text(
        "name: sentiment\nchannels: [conda-forge]\ndependencies: [python=3.11, pip]\n"
    )
    odds = np.exp([-1.5, 1.5])
    return list(odds / odds.sum())

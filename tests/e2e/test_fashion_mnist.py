"""The Fashion-MNIST example: train, serve one folder with two models, classify 10,000 images."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from xgboost import XGBClassifier

from support.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.examples, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion-mnist"


def test_served_accuracy_is_that_of_the_models_called_directly(
    test_data: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "HEADRACE_TEST_DATA": str(test_data)}
    train = [
        sys.executable,
        str(EXAMPLE / "train_models.py"),
        "--rows",
        "600",
        "--into",
        str(tmp_path),
    ]
    subprocess.run(train, env=environment, check=True, timeout=200)
    with serving(str(tmp_path)) as server:
        ask = [sys.executable, str(EXAMPLE / "ask_models.py"), "--url", server.http]
        done = subprocess.run(
            ask, env=environment, check=True, timeout=250, capture_output=True, text=True
        )
    served = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())

    images, labels = example("train_models").read(test_data / "fashion-mnist", "t10k")
    trees = XGBClassifier()
    trees.load_model(tmp_path / "xgboost" / "model.json")
    models = {"svm": joblib.load(tmp_path / "svm" / "model.joblib"), "xgboost": trees}
    for name, model in models.items():
        accuracy = f"{(model.predict(images.astype(np.float32)) == labels).mean():.4f}"
        assert served[f"fashion-{name} json"] == accuracy
        assert served[f"fashion-{name} binary"] == accuracy
        assert float(accuracy) > 0.7


def example(name: str) -> Any:
    """A module of the example, which is not a package."""
    spec = importlib.util.spec_from_file_location(f"fashion_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

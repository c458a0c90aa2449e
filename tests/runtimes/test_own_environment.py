"""An MLflow model in the environment that MLflow recorded, built from the machine's index."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from support import wine
from support.asking import ask
from support.serving import serving

pytestmark = [pytest.mark.runtimes, pytest.mark.e2e, pytest.mark.timeout(600)]


def test_an_mlflow_model_gives_the_same_answers_in_its_own_environment(tmp_path: Path) -> None:
    pins = [f"{name}=={metadata.version(name)}" for name in ("scikit-learn", "skops", "numpy")]
    # A package that the server's environment lacks, so that one is built.
    folder = wine.save_mlflow(tmp_path / "wine", pip_requirements=[*pins, "text-unidecode==1.2"])
    table = wine.wines()[:5]
    body = {"inputs": wine.columns(table)}

    with serving(folder, env={"HEADRACE_HOME": str(tmp_path / "home")}, timeout=500) as server:
        answer = ask(server.http, "POST", "/v2/models/wine/infer", body).json

    assert "text-unidecode" in server_requirements(tmp_path)
    assert np.allclose(answer["outputs"][0]["data"], wine.trained().predict(table))


def server_requirements(folder: Path) -> str:
    (record,) = folder.glob("home/environments/*.json")
    return record.read_text()

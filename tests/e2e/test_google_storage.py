"""Models in Google Cloud Storage, as Vertex AI names them, fetched by MLflow's client."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.asking import ask
from support.clients import TEST_TIMEOUT, environment
from support.google_storage import bucket
from support.serving import serving
from support.wine import save_mlflow, trained, wines

pytestmark = [
    pytest.mark.e2e,
    # The first test to need it builds the environment with Google's library.
    pytest.mark.timeout(TEST_TIMEOUT),
]


def test_vertex_may_name_a_model_in_google_cloud_storage(tmp_path: Path) -> None:
    save_mlflow(tmp_path / "bucket/models/wine")
    python = environment("google-storage")
    (packages,) = python.parents[1].glob("lib/python3*/site-packages")
    source = str(Path(__file__).parents[2] / "src")

    with bucket(tmp_path / "bucket") as url:
        variables = {
            "HEADRACE_CONTAINER": "1",
            "AIP_HTTP_PORT": "0",
            "AIP_HEALTH_ROUTE": "/health",
            "AIP_PREDICT_ROUTE": "/predict",
            "AIP_STORAGE_URI": "gs://vertex-bucket/models/wine",
            # Google's library asks there, and for no credentials.
            "STORAGE_EMULATOR_HOST": url,
            "GOOGLE_CLOUD_PROJECT": "test",
            "PYTHONPATH": os.pathsep.join([source, str(packages)]),
        }
        with serving(env=variables, ports=()) as server:
            body = {"instances": wines().head(3).to_dict(orient="records")}
            answer = ask(server.http, "POST", "/predict", body)

    expected = pytest.approx(trained().predict(wines().head(3)).tolist(), rel=1e-12)
    assert answer.json == {"predictions": expected}

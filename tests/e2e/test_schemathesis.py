"""schemathesis, in its own environment, against the OpenAPI document of a real server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.clients import TEST_TIMEOUT, environment
from support.serving import serving
from support.wine import save_mlflow, trained

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(TEST_TIMEOUT)]

# MLflow labels its bare newline and version text as JSON, and so do we.
NOT_JSON = ("/ping", "/health", "/version")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def test_no_generated_request_gets_a_server_error_or_an_undeclared_answer(tmp_path: Path) -> None:
    python = environment("schemathesis")
    model = save_mlflow(tmp_path / "model", trained(), True)
    with serving(str(model), "--name", "wine") as server:
        command = [str(python.parent / "st"), "run", f"{server.http}/openapi.json"]
        command += ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"]
        command += ["--max-examples", "40", "--generation-deterministic"]
        # Unloading the model on purpose makes every later answer a rightful 503.
        command += ["--exclude-path-regex", "^/v2/repository/models"]
        for path in NOT_JSON:
            command += ["--exclude-path", path]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)

    assert done.returncode == 0, done.stdout[-6000:]

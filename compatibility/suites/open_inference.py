"""The Open Inference Protocol's own OpenAPI document and gRPC definition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from compatibility.own_calls import run_calls
from compatibility.suite import Case, Setting, Suite

SPECIFICATION = Path("specification/protocol")
MODEL = """
from headrace.model import InferenceRequest, InferenceResponse, Model

class Echo(Model):
    def predict(self, request: InferenceRequest) -> InferenceResponse:
        return InferenceResponse(request.inputs)
"""
SETTINGS = {
    "name": "echo",
    "implementation": "echo:Echo",
    "platform": "mirror",
    "parameters": {"version": "3"},
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
    "outputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
}


def run(setting: Setting) -> Iterator[Case]:
    """Serve a model, and ask for all that the protocol defines."""
    from support.serving import serving

    folder = setting.folder / "models" / "echo"
    folder.mkdir(parents=True)
    (folder / "echo.py").write_text(MODEL)
    (folder / "model-settings.json").write_text(json.dumps(SETTINGS))
    specification = str(setting.source / SPECIFICATION)
    with serving(folder.parent) as server:
        addresses = server.http, server.announced["grpc"]
        yield from run_calls(setting, "open_inference_calls.py", specification, *addresses)


SUITE = Suite(
    title="The Open Inference Protocol's schemas",
    version="OpenAPI document and gRPC definition, main branch",
    url="https://github.com/kserve/open-inference-protocol",
    get=(
        "git clone https://github.com/kserve/open-inference-protocol\n"
        "python3.11 -m venv .venv-protocol\n"
        ".venv-protocol/bin/pip install grpcio-tools grpcio-reflection jsonschema PyYAML"
    ),
    arguments="--source open-inference-protocol --python .venv-protocol/bin/python",
    run=run,
)

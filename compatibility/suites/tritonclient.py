"""Triton's client: the examples in its repository, unedited, and a list of calls of our own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from compatibility.own_calls import run_calls
from compatibility.suite import Case, Setting, Suite

MODELS = Path(__file__).parent.parent / "models" / "asked_by_clients.py"
EXAMPLES = Path("src/python/examples")
# Which class a model of the examples is, and the datatype that its metadata states.
SERVED = {
    "simple": ("Simple", "INT32"),
    "simple_int8": ("Simple", "INT8"),
    "simple_string": ("SimpleString", "BYTES"),
    "simple_identity": ("Identity", ""),
    "simple_sequence": ("Identity", ""),
    "simple_string_sequence": ("Identity", ""),
    "repeat_int32": ("Repeat", ""),
}
# Of examples that take the address of both ports from nowhere, or an image and its network.
NOT_RUN = {
    "memory_growth_test.py": "its addresses are fixed in its source",
    "image_client.py": "needs an image and an image model of Triton's examples",
    "ensemble_image_client.py": "needs an image and an ensemble of Triton's examples",
    "grpc_image_client.py": "needs an image and an image model of Triton's examples",
    "grpc_client.py": "needs an image model of Triton's examples",
}
TIMEOUT = 120
# What is measured with perf_analyzer, which is a program of its own.
MEASURED: dict[str, list[str]] = {
    "http": [],
    "http_at_a_rate": ["--request-rate-range", "50"],
    "grpc": ["-i", "grpc"],
    "grpc_several_at_once": ["-i", "grpc", "--async", "--concurrency-range", "4"],
    "grpc_stream": ["-i", "grpc", "--async", "--streaming", "--concurrency-range", "4"],
}
# Any measurement is stable enough: this shows that it comes about.
BRIEFLY = [
    "--measurement-mode",
    "count_windows",
    "--measurement-request-count",
    "50",
    "--stability-percentage",
    "999",
]


def run(setting: Setting) -> Iterator[Case]:
    """Serve the models, and call them in every way."""
    from support.serving import serving

    root = setting.folder / "models"
    for name, (kind, datatype) in SERVED.items():
        _write(root / name, name, kind, datatype)
    with serving(root, "--server-name", "triton") as server:
        http, grpc = urlsplit(server.http).netloc, server.announced["grpc"]
        yield from run_calls(setting, "tritonclient_calls.py", http, grpc)
        for path in sorted((setting.source / EXAMPLES).glob("*.py")):
            yield _example(setting, path, http if "http" in path.name else grpc, http)
        for name, options in MEASURED.items():
            yield _measured(setting, name, options, http, grpc)


def _write(folder: Path, name: str, kind: str, datatype: str) -> None:
    folder.mkdir(parents=True)
    shutil.copy(MODELS, folder / f"model_{name}.py")
    settings: dict[str, Any] = {"name": name, "implementation": f"model_{name}.{kind}"}
    if datatype:
        for key in ("inputs", "outputs"):
            settings[key] = [
                {"name": f"{key[:-1].upper()}{n}", "datatype": datatype, "shape": [-1, 16]}
                for n in range(2)
            ]
    (folder / "model-settings.json").write_text(json.dumps(settings))


def _example(setting: Setting, path: Path, address: str, http: str) -> Case:
    if path.name in NOT_RUN:
        return Case("examples", path.name, "skipped", NOT_RUN[path.name])
    command = [setting.python, str(path), "-u", http if path.name.startswith("reuse") else address]
    return _ended(command, setting, "examples", path.name)


def _ended(command: list[str], setting: Setting, area: str, name: str) -> Case:
    try:
        done = subprocess.run(
            command, cwd=setting.folder, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return Case(area, name, "failed", f"did not end within {TIMEOUT} s")
    if not done.returncode:
        return Case(area, name, "passed")
    lines = (done.stdout + done.stderr).strip().splitlines()
    return Case(area, name, "failed", lines[-1] if lines else "no output")


def _measured(setting: Setting, name: str, options: list[str], http: str, grpc: str) -> Case:
    program = shutil.which("perf_analyzer")
    if program is None:
        return Case("perf_analyzer", name, "skipped", "perf_analyzer is not on the PATH")
    address = grpc if "grpc" in options else http
    shapes = ["--shape", "INPUT0:16", "--shape", "INPUT1:16"]
    command = [program, "-m", "simple", "-u", address, *shapes, *BRIEFLY, *options]
    return _ended(command, setting, "perf_analyzer", name)


SUITE = Suite(
    title="Triton's client",
    version="tritonclient 2.73.0",
    url="https://github.com/triton-inference-server/client",
    get=(
        "git clone https://github.com/triton-inference-server/client triton-client\n"
        "python3.11 -m venv .venv-tritonclient\n"
        ".venv-tritonclient/bin/pip install 'tritonclient[all]==2.73.0'\n"
        "apt-get install libb64-0d  # for perf_analyzer, which is in packages up to this one\n"
        "python3.11 -m venv .venv-perf\n"
        ".venv-perf/bin/pip install tritonclient==2.43.0 'nvidia-cuda-runtime-cu12==12.*'\n"
        "export PATH=$PATH:$PWD/.venv-perf/bin\n"
        "export LD_LIBRARY_PATH=$(echo $PWD/.venv-perf/lib/*/site-packages/nvidia/cuda_runtime/lib)"
    ),
    arguments="--source triton-client --python .venv-tritonclient/bin/python",
    run=run,
)

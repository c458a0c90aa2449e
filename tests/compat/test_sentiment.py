"""The page of the sentiment example: a transformer behind a runtime written for MLServer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.pages import ADDRESS, blocks
from support.serving import serving

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.runtimes, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "examples"
OFFLINE = {"HF_HUB_OFFLINE": "1"}
# Calls the model without a server, as a user's script would.
CALL = """
import sys
from transformers import pipeline
folder, *texts = sys.argv[1:]
for mood, text in zip(pipeline("text-classification", model=folder)(texts), texts):
    print(f"{mood['label']} {mood['score']:.6f} {text}")
"""


def run(command: list[str], folder: Path) -> str:
    """What a command prints, run in a folder with this interpreter as `python`."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **OFFLINE, "PATH": programs},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rest_and_grpc_answer_as_the_model_called_directly(tmp_path: Path) -> None:
    folder = shutil.copytree(
        EXAMPLES / "sentiment",
        tmp_path / "examples/sentiment",
        ignore=shutil.ignore_patterns("model", "__pycache__"),
    )
    (_, serve), (_, curl), (_, asking) = blocks(folder / "README.md")
    install, build, start = serve.splitlines()
    assert install.startswith("pip install '.[")
    assert start == "headrace serve examples/sentiment"
    run(["bash", "-ec", build], tmp_path)

    with serving(folder, env=OFFLINE, timeout=120) as server:
        here = {ADDRESS: urlsplit(server.http).netloc, "127.0.0.1:8081": server.announced["grpc"]}
        for shown, real in here.items():
            curl, asking = curl.replace(shown, real), asking.replace(shown, real)
        label, score = json.loads(run(["bash", "-ec", curl], tmp_path))["outputs"]
        over_rest, over_grpc = (
            run(["bash", "-ec", command], tmp_path) for command in asking.splitlines()
        )
    texts = ["this wine is great", "the film was boring"]
    direct = run([sys.executable, "-c", CALL, str(folder / "model"), *texts], tmp_path)

    assert label["data"] == ["POSITIVE", "NEGATIVE"]
    assert score["shape"] == [2, 1]
    assert over_rest == over_grpc == direct
    assert [line.split()[0] for line in direct.splitlines()] == label["data"]

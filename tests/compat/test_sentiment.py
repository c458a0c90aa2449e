"""The sentiment example: a transformer behind a runtime written for MLServer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.asking import ask, request, tensor
from support.serving import serving

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.runtimes, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "sentiment"


def test_the_example_tells_good_moods_from_bad(tmp_path):
    for name in ("runtime.py", "model-settings.json"):
        shutil.copy(EXAMPLE / name, tmp_path)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, EXAMPLE / "build_model.py", "--folder", tmp_path / "model"],
        check=True,
        timeout=200,
        env=environment,
        capture_output=True,
    )
    body = request(tensor("text", "BYTES", [2], ["this wine is great", "the film was boring"]))

    with serving(tmp_path, env={"HF_HUB_OFFLINE": "1"}, timeout=120) as server:
        answer = ask(server.http, "POST", "/v2/models/sentiment/infer", body)

    assert answer.status == 200, answer.body
    label, score = answer.json["outputs"]
    assert label["data"] == ["POSITIVE", "NEGATIVE"]
    assert score["shape"] == [2, 1]
    assert all(0.5 < value <= 1 for value in score["data"])

"""What two pages on MLServer say of a folder: serving it, `dockerfile`, and `build`.

`tests/images/test_mlserver_images.py` builds and starts the images.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from headrace.cli.main import main
from support.asking import ask, request, tensor
from support.mlserver_folders import TEXT, write_fashion, write_sentiment
from support.serving import serving


@pytest.mark.e2e
def test_one_command_serves_every_model_of_a_folder_at_its_version(tmp_path, monkeypatch):
    rows, expected = write_fashion(tmp_path)
    monkeypatch.chdir(tmp_path)
    body = request(tensor("predict", "FP32", list(rows.shape), rows.ravel().tolist()))
    with serving(".") as server:
        for name, labels in expected.items():
            path = f"/v2/models/fashion-{name}/versions/v1/infer"
            answer = ask(server.http, "POST", path, body)
            assert answer.status == 200, answer.body
            (output,) = answer.json["outputs"]
            assert (answer.json["model_name"], answer.json["model_version"]) == (
                f"fashion-{name}",
                "v1",
            )
            assert answer.json["id"]
            assert (output["name"], output["datatype"]) == ("predict", "INT64")
            assert output["data"] == labels.tolist()
        assert ask(server.http, "GET", "/v2").json["name"] == "fashion"


@pytest.mark.e2e
def test_a_runtime_of_ones_own_is_served_from_its_folder(tmp_path, monkeypatch):
    odds = write_sentiment(tmp_path)
    monkeypatch.chdir(tmp_path)
    with serving(".") as server:
        body = request(tensor("text", "BYTES", [1], [json.dumps(TEXT)]))
        answer = ask(server.http, "POST", "/v2/models/sentiment/infer", body)
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("predictions", [2], "FP32")
    np.testing.assert_allclose(output["data"], odds, rtol=1e-6)


def test_dockerfile_of_the_folder_installs_what_its_models_need(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "Two models"
    write_fashion(folder)
    monkeypatch.chdir(folder)

    assert main(["dockerfile", "."]) == 0

    text = (folder / "Dockerfile").read_text()
    assert 'CMD ["serve"]' in text
    assert "EXPOSE 8080 8081" in text
    (wanted,) = folder.glob(".headrace/requirements.txt")
    assert wanted.read_text().startswith("headrace[sklearn,xgboost] @ ")
    said = capsys.readouterr()
    assert "'mlserver', 'mlserver-sklearn', 'mlserver-xgboost': left out" in said.err
    assert "build it with: docker build -t two-models ." in said.out


def test_build_says_which_image_it_would_make_where_no_engine_is(tmp_path, monkeypatch, capsys):
    write_sentiment(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["build", ".", "-t", "sentiment-app:1.0.0"]) == 1

    assert "docker build -t sentiment-app:1.0.0" in capsys.readouterr().err

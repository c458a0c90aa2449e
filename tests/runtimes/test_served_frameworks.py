from __future__ import annotations

import base64
import io
import json
import wave

import numpy as np
import pytest

from support.asking import Client, request, tensor
from support.serving import serving

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.runtimes, pytest.mark.e2e]


def write(folder, model, **settings):
    folder.mkdir()
    torch.save(model, folder / "model.pt")
    rows = {"name": folder.name, "implementation": "pytorch", **settings}
    (folder / "model-settings.json").write_text(json.dumps(rows))


def test_a_module_is_served_through_both_protocols(tmp_path):
    model = torch.nn.Linear(3, 1)
    write(tmp_path / "net", model, parameters={"extra": {"batchable": True, "device": "cpu"}})
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    expected = model(torch.tensor(rows)).detach().numpy()
    with serving(tmp_path, timeout=120) as server, Client(server.http) as client:
        body = request(tensor("input", "FP32", [2, 3], rows))
        answer = client.ask("POST", "/v2/models/net/infer", body)
        found = np.array(answer.json["outputs"][0]["data"]).reshape(2, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        scored = client.ask("POST", "/invocations", {"inputs": rows})
        np.testing.assert_allclose(scored.json["predictions"], expected, rtol=1e-5)
        wrong = client.ask(
            "POST", "/v2/models/net/infer", request(tensor("input", "FP32", [1, 2], [1, 2]))
        )
        assert wrong.status == 400
        assert "cannot take 'input' of FP32 [1, 2]" in wrong.json["error"]
        described = client.ask("GET", "/v2/models/net").json
        assert described["parameters"]["device"] == "cpu"


def test_a_sound_file_is_transcribed_over_http(tmp_path):
    pytest.importorskip("transformers")
    from support import tiny_transformers

    folder = tmp_path / "hears"
    folder.mkdir()
    tiny_transformers.wav2vec2(folder)
    task = {"task": "automatic-speech-recognition", "device": "cpu"}
    settings = {"name": "hears", "implementation": "huggingface", "parameters": {"extra": task}}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 16000, 0, "NONE", ""))
        writer.writeframes(np.arange(800, dtype="<i2").tobytes())
    sound = tensor("args", "BYTES", [1], [base64.b64encode(file.getvalue()).decode()])
    sound["parameters"] = {"content_type": "audio"}
    with serving(tmp_path, timeout=120) as server, Client(server.http) as client:
        answer = client.ask("POST", "/v2/models/hears/infer", request(sound))
        assert answer.status == 200, answer.body
        assert "text" in json.loads(answer.json["outputs"][0]["data"][0])
        sound["data"] = ["/etc/passwd"]
        refused = client.ask("POST", "/v2/models/hears/infer", request(sound))
        assert refused.status == 400
        assert "row 0 is not a sound file" in refused.json["error"]

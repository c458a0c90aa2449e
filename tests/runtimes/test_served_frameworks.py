from __future__ import annotations

import json

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
        asked = request(tensor("input", "FP32", [2, 3], rows))
        answer = client.ask("POST", "/v2/models/net/infer", asked)
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

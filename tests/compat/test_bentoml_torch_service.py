"""A service file over a PyTorch model as BentoML's users write it, unedited."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import headrace
from support.asking import ask
from support.serving import serving

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.e2e, pytest.mark.runtimes]

SERVICE = Path(__file__).parent / "bentoml_services/mnist_service.py:svc"


def test_endpoints_get_tensors_from_the_runner_of_a_pytorch_model(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval()
    headrace.pytorch.save_model("mnist_cnn", model, signatures={"__call__": {"batchable": True}})
    images = np.random.default_rng(0).random((3, 1, 28, 28)).astype("float32").round(3)
    pixels = np.arange(784, dtype=np.uint8).reshape(28, 28)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")

    with serving(SERVICE, env={"HEADRACE_HOME": str(tmp_path)}) as server:
        digits = ask(server.http, "POST", "/predict_ndarray", images.tolist())
        scores = ask(
            server.http, "POST", "/predict_image", png.getvalue(), {"Content-Type": "image/png"}
        )

    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).argmax(dim=1).tolist()
        by_pixels = model(torch.from_numpy(pixels[None, None].astype("float32") / 255)).numpy()
    assert digits.json == expected
    np.testing.assert_allclose(scores.json, by_pixels, rtol=1e-5)

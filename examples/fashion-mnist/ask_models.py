"""Classify all 10,000 test images with both models, in one JSON and one binary request each.

    python examples/fashion-mnist/ask_models.py [--url http://127.0.0.1:8080]

Needs only the standard library and numpy. Prints `model form accuracy` lines.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from train_models import Pixels, read

MODELS = ("fashion-svm", "fashion-xgboost")


def as_json(images: Pixels) -> tuple[bytes, dict[str, str]]:
    """The request's body and headers, with the pixels as a flat list."""
    tensor = {"name": "images", "shape": list(images.shape), "datatype": "FP32"}
    body = json.dumps({"inputs": [{**tensor, "data": images.ravel().tolist()}]}).encode()
    return body, {"Content-Type": "application/json"}


def as_binary(images: Pixels) -> tuple[bytes, dict[str, str]]:
    """The same with the binary tensor data extension."""
    raw = images.astype("<f4").tobytes()
    tensor = {
        "name": "images",
        "shape": list(images.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + raw, {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }


def ask(url: str, model: str, request: tuple[bytes, dict[str, str]]) -> Any:
    """The labels that the model predicts."""
    body, headers = request
    post = urllib.request.Request(f"{url}/v2/models/{model}/infer", body, headers)
    with urllib.request.urlopen(post, timeout=300) as response:
        return np.array(json.loads(response.read())["outputs"][0]["data"])


def main() -> None:
    """Print the accuracy of each model in each form."""
    parser = argparse.ArgumentParser(description="call the served Fashion-MNIST models")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    images, labels = read(Path(os.environ["HEADRACE_TEST_DATA"]) / "fashion-mnist", "t10k")
    forms = {"json": as_json(images), "binary": as_binary(images)}
    for model in MODELS:
        for form, request in forms.items():
            accuracy = (ask(options.url, model, request) == labels).mean()
            print(f"{model} {form} {accuracy:.4f}")


if __name__ == "__main__":
    main()

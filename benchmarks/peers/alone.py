"""Limits without a server: the model called in a loop, its framework imported, a body parsed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import simdjson
from benchmarks.peers import forms
from benchmarks.peers.models import Models

from headrace.protocol.open_inference.rest_json import decode_request

IMPORT = "import sklearn.linear_model"
REPEATS = 7
CALLS = 200


def measure(models: Models, repeats: int = REPEATS) -> dict[str, float]:
    """Medians of interleaved repeats."""
    row = models.rows["wine"].requests[0]
    batch = np.concatenate(models.rows["wine"].requests)
    predict = models.estimator.predict
    body = forms.tensor("pixels").encode(models.rows["pixels"].requests[0]).body
    passes: dict[str, Callable[[], Any]] = {
        "predict_us": lambda: [predict(row) for _ in range(CALLS)],
        "predict_batch_us": lambda: [predict(batch) for _ in range(CALLS)],
        # A parser of its own each time: one that is reused keeps its buffers.
        "parse_ms": lambda: simdjson.Parser().parse(body),
        "decode_ms": lambda: decode_request(body),
        "import_seconds": lambda: subprocess.run([sys.executable, "-c", IMPORT], check=True),
    }
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(repeats):
        for name, work in passes.items():
            began = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - began)
    factors = {"us": 1e6 / CALLS, "ms": 1e3, "seconds": 1.0}
    found = {
        name: round(median(each) * factors[name.rpartition("_")[2]], 3)
        for name, each in taken.items()
    }
    pairs = zip(taken["decode_ms"], taken["parse_ms"], strict=True)
    found["decode_passes"] = round(median(ours / one for ours, one in pairs), 3)
    found["batch_rows"] = len(batch)
    found["body_mb"] = round(len(body) / 1e6, 2)
    return found

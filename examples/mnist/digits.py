"""Handwritten digits: MNIST's, or scikit-learn's where those are not at hand."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 28
SAMPLE = Path("digit.json")

Array = np.ndarray[Any, Any]


def load() -> tuple[Array, Array]:
    """Images as [rows, 1, 28, 28] from 0 to 1, float32, and their labels as [rows].

    They are the 10,000 in $HEADRACE_TEST_DATA/mnist, or 1,797 small ones, enlarged.
    """
    data = os.environ.get("HEADRACE_TEST_DATA")
    if not data:
        from sklearn.datasets import load_digits

        small = load_digits()
        large = np.kron(small.images / 16, np.ones((3, 3)))
        framed = np.pad(large, ((0, 0), (2, 2), (2, 2)))
        return framed.astype(np.float32)[:, np.newaxis], small.target
    images, labels = (
        np.frombuffer(
            gzip.decompress((Path(data) / f"mnist/t10k-{name}.gz").read_bytes()), np.uint8
        )
        for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    pixels = images[16:].reshape(-1, 1, SIDE, SIDE).astype(np.float32) / 255
    return pixels, labels[8:].astype(np.int64)


def split(labels: Array) -> Array:
    """Which rows to train on; every tenth is held out."""
    return np.asarray(np.arange(len(labels)) % 10 != 0)


def write_sample(images: Array, labels: Array) -> None:
    """Write the first held-out 3 to digit.json, as a request for one picture."""
    first = np.flatnonzero(~split(labels) & (labels == 3))[0]
    SAMPLE.write_text(json.dumps(images[first : first + 1].tolist()))

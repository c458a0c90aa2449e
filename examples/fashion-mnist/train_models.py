"""Train a support vector machine and boosted trees on Fashion-MNIST, a few seconds each.

    python examples/fashion-mnist/train_models.py [--rows 3000] [--into FOLDER]

Reads the official idx files under $HEADRACE_TEST_DATA/fashion-mnist. Writes the models, and copies
of the settings files, to FOLDER, which is this folder by default.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
from pathlib import Path

import joblib
import numpy as np
from sklearn.svm import SVC
from xgboost import XGBClassifier

HERE = Path(__file__).parent
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def read(data: Path, part: str) -> tuple[Pixels, Pixels]:
    """Images as [rows, 784] and labels as [rows] of `train` or `t10k`, all unsigned bytes."""
    images, labels = (
        np.frombuffer(gzip.decompress((data / f"{part}-{name}.gz").read_bytes()), np.uint8)
        for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    return images[16:].reshape(-1, 784), labels[8:]


def main() -> None:
    """Train on the first rows of the training set and save where the settings expect the models."""
    parser = argparse.ArgumentParser(description="train two models on Fashion-MNIST")
    parser.add_argument("--rows", type=int, default=3000, help="training images")
    parser.add_argument("--into", type=Path, default=HERE, help="folder to write to")
    options = parser.parse_args()
    images, labels = read(Path(os.environ["HEADRACE_TEST_DATA"]) / "fashion-mnist", "train")
    rows, answers = images[: options.rows].astype(np.float32), labels[: options.rows]
    for name in ("svm", "xgboost"):
        (options.into / name).mkdir(parents=True, exist_ok=True)
        source, target = (folder / name / "model-settings.json" for folder in (HERE, options.into))
        if source.resolve() != target.resolve():
            shutil.copy(source, target)
    print(f"training a support vector machine on {options.rows} images")
    joblib.dump(SVC().fit(rows, answers), options.into / "svm" / "model.joblib")
    print(f"training boosted trees on {options.rows} images")
    trees = XGBClassifier(n_estimators=30, max_depth=5).fit(rows, answers)
    trees.save_model(options.into / "xgboost" / "model.json")
    print(f"serve both with: headrace serve {options.into}")


if __name__ == "__main__":
    main()

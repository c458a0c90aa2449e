"""Classify texts with the sentiment model, over REST or gRPC.

    python examples/sentiment/ask.py --url grpc://127.0.0.1:8081 TEXT...

Prints `label score text` lines.
"""

from __future__ import annotations

import argparse

import numpy as np

from headrace.client import Client


def main() -> None:
    """Send all texts in one request."""
    parser = argparse.ArgumentParser(description="call the sentiment model")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    options = parser.parse_args()
    with Client(options.url) as client:
        answer = client.infer("sentiment", {"text": np.array(options.texts, dtype=object)})
    labels, scores = answer.outputs["label"].ravel(), answer.outputs["score"].ravel()
    for label, score, text in zip(labels, scores, options.texts, strict=True):
        print(f"{label} {score:.6f} {text}")


if __name__ == "__main__":
    main()

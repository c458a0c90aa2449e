"""Writes small custom models for a server to serve."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

SOURCE = """
import os, sys, time
import numpy as np
from headrace.model import Model

HERE = os.path.dirname(os.path.abspath(__file__))

class Custom(Model):
    row_independent = {row_independent}

    def load(self):
{load}

    def predict(self, x: np.ndarray) -> np.ndarray:
{predict}
"""


def write_model(
    root: Path,
    predict: str = "return x * 2",
    load: str = "pass",
    name: str = "m",
    row_independent: bool = False,
    **settings: Any,
) -> Path:
    """A folder with a model whose `predict` gets the ndarray `x`; HERE is that folder."""
    folder = root / name
    folder.mkdir(parents=True)
    source = SOURCE.format(
        row_independent=row_independent, load=_indented(load), predict=_indented(predict)
    )
    module = f"custom_{name}"
    (folder / f"{module}.py").write_text(source)
    settings = {"name": name, "implementation": f"{module}:Custom", **settings}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    return folder


def _indented(source: str) -> str:
    return textwrap.indent(textwrap.dedent(source), " " * 8)

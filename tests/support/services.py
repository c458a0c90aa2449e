"""Writes services over stored models, for a server to serve."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace import models
from support.asking import ask
from support.serving import Server, serving

# The module that models are stored with. It serves each by the class in its own folder.
FRAMEWORK = """
def settings_of(stored):
    name = stored.info.name
    return {"implementation": f"model_{name}.py:Stored", "folder": stored.path.rstrip("/")}
"""
MODEL = """
import os, signal, time
import numpy as np
from headrace import InvalidInput, Model

class Stored(Model):
    row_independent = True

    def predict(self, x: np.ndarray) -> np.ndarray:
{predict}
"""
SERVICE = """
import asyncio, os, signal, time
from pathlib import Path
from typing import Annotated
import numpy as np
import headrace
from headrace import Context, InvalidInput, Service
from headrace.io import JSON, Multipart, NumpyNdarray, Shape, Text

HERE = Path(__file__).parent

def stored(name, /, **options):
    return headrace.models.get(name).to_runner(**options)
"""
BATCHED = {"predict": {"batchable": True, "batch_dim": 0}}


def store(name: str, predict: str, **kept: Any) -> None:
    """Store a model whose `predict` gets the ndarray `x`; its module is `framework`."""
    source = MODEL.format(predict=textwrap.indent(textwrap.dedent(predict), " " * 8))
    with models.create(name, **{"module": "framework", "signatures": BATCHED, **kept}) as model:
        Path(model.path_of(f"model_{name}.py")).write_text(source)


def write_service(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    stored: Mapping[str, str] | None = None,
) -> Path:
    """Write `service.py`, which can use what `SERVICE` imports, and store the models by name."""
    monkeypatch.setenv("HEADRACE_HOME", str(root / "home"))
    (root / "framework.py").write_text(FRAMEWORK)
    for name, predict in (stored or {}).items():
        store(name, predict)
    (root / "service.py").write_text(SERVICE + textwrap.dedent(source))
    return root / "service.py"


@contextmanager
def serving_service(file: Path, *flags: object) -> Iterator[Server]:
    """A server of the service `svc` in a file that `write_service` wrote."""
    home = {"HEADRACE_HOME": str(file.parent / "home")}
    with serving(f"{file}:svc", *flags, env=home) as server:
        yield server


def in_flight(server: Server, *models: str) -> int:
    """Requests for these models that wait or run."""
    text = ask(server.metrics, "GET", "/metrics").body.decode()
    rows = [line for line in text.splitlines() if line.startswith("headrace_in_flight_requests{")]
    found = [row for row in rows if any(f'model="{model}"' in row for model in models)]
    assert len(found) == len(models)
    return sum(int(float(row.rpartition(" ")[2])) for row in found)

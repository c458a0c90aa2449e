"""The requests to each server: one wine per request, in the forms that the server takes."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.wine import WINE

CONNECTIONS = (1, 32, 128)
INFER = "/v2/models/wine/infer"


@dataclass(frozen=True)
class Scenario:
    """One request, sent again and again to one server; `read` finds the prediction in an answer.

    Where `read` is None, only the size of the answer counts.
    """

    name: str
    title: str
    server: str
    path: str
    body: bytes
    read: Callable[[Any], float] | None


@dataclass(frozen=True)
class Goal:
    """Scenario `name` must reach `factor` times the rate of `base` at `connections`."""

    name: str
    base: str
    connections: int
    factor: float


GOALS = (
    Goal("headrace-invocations", "mlflow-invocations", 32, 20.0),
    Goal("headrace-tensor", "uvicorn-echo", 32, 0.5),
)


class WrongAnswer(Exception):
    """A server's answer is not what the model predicts."""


def tensor_body() -> bytes:
    """One wine as one FP64 tensor."""
    return _json({"inputs": [_input("input-0", [1, len(WINE)], WINE)]})


def scenarios(columns: list[str]) -> list[Scenario]:
    """All scenarios of a run; `columns` are the names of the wine's features."""
    tensor = tensor_body()
    named = _json(
        {"inputs": [_input(name, [1], [value]) for name, value in zip(columns, WINE, strict=True)]}
    )
    split = _json({"dataframe_split": {"columns": columns, "data": [WINE]}})
    infer = INFER
    return [
        Scenario("uvicorn-echo", "bare uvicorn, echo", "uvicorn", infer, tensor, None),
        Scenario(
            "headrace-tensor",
            "Headrace, sklearn, `/v2` infer, one [1, 11] tensor",
            "headrace-sklearn",
            infer,
            tensor,
            _first_output,
        ),
        Scenario(
            "headrace-columns",
            "Headrace, MLflow, `/v2` infer, eleven [1] tensors",
            "headrace-mlflow",
            infer,
            named,
            _first_output,
        ),
        Scenario(
            "headrace-invocations",
            "Headrace, MLflow, `/invocations`, `dataframe_split`",
            "headrace-mlflow",
            "/invocations",
            split,
            _first_prediction,
        ),
        Scenario(
            "mlflow-invocations",
            "`mlflow models serve`, `/invocations`, `dataframe_split`",
            "mlflow",
            "/invocations",
            split,
            _first_prediction,
        ),
    ]


def ask(scenario: Scenario, url: str, expected: float) -> bytes:
    """Send the scenario's request once and return the answer's body.

    Raises:
        WrongAnswer: the status is not 200, or the prediction is not `expected`.
    """
    request = urllib.request.Request(
        url + scenario.path, scenario.body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: bytes = response.read()
    except urllib.error.HTTPError as error:
        raise WrongAnswer(f"{scenario.name}: status {error.code}, {error.read()[:300]!r}") from None
    if scenario.read is not None:
        got = scenario.read(json.loads(answer))
        if not math.isclose(got, expected, rel_tol=1e-9):
            raise WrongAnswer(f"{scenario.name}: predicted {got}, the model itself {expected}")
    return answer


def _input(name: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": "FP64", "data": data}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _first_output(answer: Any) -> float:
    return float(answer["outputs"][0]["data"][0])


def _first_prediction(answer: Any) -> float:
    return float(answer["predictions"][0])

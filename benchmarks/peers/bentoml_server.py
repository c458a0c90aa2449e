"""BentoML: a class as its pages show, without and with merging of requests."""

from __future__ import annotations

import joblib
from benchmarks import bentoml_servers
from benchmarks.peers import forms
from benchmarks.peers.contender import Contender, Peer, Place

SERVICE = "new_style.py"


def _start(place: Place) -> list[str]:
    return bentoml_servers.serve(place.python, place.folder / "service", "bentoml", place.port)


def _prepare(place: Place) -> None:
    model = joblib.load(place.folder / "model.joblib")
    bentoml_servers.fill(place.python, place.folder / "service", model)


def _contender(name: str, title: str, path: str) -> Contender:
    return Contender(
        name,
        title,
        _start,
        "/readyz",
        {"row": forms.rows_under(path, "rows")},
        files={f"service/{SERVICE}": bentoml_servers.FILES[SERVICE]},
        environ=lambda place: bentoml_servers.variables(place.folder / "service"),
        prepare=_prepare,
    )


PEER = Peer(
    "bentoml",
    bentoml_servers.requirements(),
    [
        _contender("bentoml", "BentoML", "/classify"),
        _contender("bentoml-batched", "BentoML, `batchable=True`", "/classify_batched"),
    ],
)

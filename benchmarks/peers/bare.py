"""The limits: servers that read a request and answer with fixed bytes, and do nothing else."""

from __future__ import annotations

import sys

from benchmarks import echo
from benchmarks.peers import forms, headrace_servers
from benchmarks.peers.contender import Contender, Peer, Place
from benchmarks.result_files import ROOT
from benchmarks.servers import UVICORN

# What Headrace answers to one row, so that as many bytes are sent.
ANSWER = "answer"


def _uvicorn(place: Place) -> list[str]:
    app = ["--factory", "benchmarks.echo:create", "--port", str(place.port)]
    return [sys.executable, "-m", "uvicorn", *UVICORN, *app]


def _grpc(place: Place) -> list[str]:
    return [sys.executable, "-m", "benchmarks.grpc_echo", str(place.grpc_port)]


def _answer(place: Place) -> dict[str, str]:
    return {echo.ANSWER: str(place.folder / ANSWER), "PYTHONPATH": str(ROOT)}


PEER = Peer(
    "bare",
    [],
    [
        Contender(
            "uvicorn",
            "bare uvicorn, echo",
            _uvicorn,
            "/",
            {name: forms.echoed(form) for name, form in headrace_servers.REST.items()},
            copies={ANSWER: "answer.json"},
            environ=_answer,
        ),
        Contender(
            "grpc-aio",
            "bare grpc.aio, echo",
            _grpc,
            "",
            {"grpc": forms.echoed(forms.grpc("wine"))},
            copies={ANSWER: "answer.grpc"},
            environ=_answer,
        ),
    ],
)

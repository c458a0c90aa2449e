"""Asks a server and compares its predictions with the model's own."""

from __future__ import annotations

import math
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from benchmarks.peers.forms import METHOD, Form
from benchmarks.peers.models import Rows
from benchmarks.result_files import NoResult
from benchmarks.servers import NotStarted, Server

AT_ONCE = 16
TIMEOUT = 60.0
READY_TIMEOUT = 180.0


class WrongAnswer(NoResult):
    """A server's answer is not what the model predicts."""


def ask(server: Server, form: Form, rows: Any) -> bytes:
    """Send one request and return the answer's body.

    Raises:
        WrongAnswer: it is an error.
        OSError: the server could not be reached.
    """
    message = form.encode(rows)
    if form.path == METHOD:
        with grpc.insecure_channel(server.grpc) as channel:
            try:
                answer: bytes = channel.unary_unary(METHOD)(message.body, timeout=TIMEOUT)
            except grpc.RpcError as error:
                raise WrongAnswer(f"{server.name}: {error}") from None
            return answer
    headers = {"Content-Type": message.content_type, **message.headers}
    request = urllib.request.Request(server.url + form.path, message.body, headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            body: bytes = response.read()
            return body
    except urllib.error.HTTPError as error:
        raise WrongAnswer(f"{server.name}: status {error.code}, {error.read()[:300]!r}") from None


def first(server: Server, form: Form, rows: Any) -> bytes:
    """Ask until there is an answer, and note when that was.

    Raises:
        NotStarted: the server ended, or had no answer in time.
    """
    error: Exception | None = None
    while server.age() < READY_TIMEOUT and server.process.poll() is None:
        try:
            answer = ask(server, form, rows)
        except (WrongAnswer, OSError) as caught:
            error = caught
            time.sleep(0.02)
        else:
            server.ready_after = server.age()
            return answer
    raise NotStarted(f"{server.name} has no answer after {server.age():.0f} s: {error}")


def compare(server: Server, form: Form, rows: Rows) -> bytes:
    """Send different rows at the same time; each answer must have the prediction of its own.

    Returns the first answer.

    Raises:
        WrongAnswer: one has another.
    """

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda request: ask(server, form, request), rows.requests))
    for answer, predictions in zip(found, rows.predictions, strict=True):
        got = form.decode(answer) if form.compared else predictions
        if not agree(got, predictions):
            raise WrongAnswer(
                f"{server.name}, {form.path}: predicted {got[:5]}, "
                f"the model itself {predictions[:5]}"
            )
    return found[0]


def agree(got: list[Any], predictions: list[float]) -> bool:
    """Whether these are the model's predictions, each in a list of its own or not."""
    flat = [each[0] if isinstance(each, list) else each for each in got]
    return len(flat) == len(predictions) and all(
        math.isclose(a, b, rel_tol=1e-9) for a, b in zip(flat, predictions, strict=True)
    )

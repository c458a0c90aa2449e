"""Workers killed from outside, at any moment: the model recovers on its own."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from headrace.executors.retry import LONGEST_PAUSE
from support.asking import ask, numbers
from support.custom import write_model
from support.rounds import ROUNDS
from support.serving import Server, starting, until

# `make test-endurance` makes it two minutes.
SECONDS = ROUNDS * 1.2
# Seconds that a worker and its model may take to start, on a slow machine.
A_START = 20.0
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(SECONDS + 300)]


def kill_workers(server: Server) -> None:
    for pid in server.workers():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def answers(server: Server) -> bool:
    return ask(server.http, "POST", "/v2/models/m/infer", numbers(3)).status == 200


@pytest.mark.parametrize("from_the_start", [True, False], ids=["from the start", "when ready"])
def test_a_model_answers_again_after_its_workers_were_killed_at_every_moment(
    tmp_path: Path, from_the_start: bool
) -> None:
    dice = random.Random(0)
    with starting(write_model(tmp_path, load="time.sleep(0.3)")) as server:
        if from_the_start:
            server.wait_listening()
        else:
            server.wait_ready()
        started = time.monotonic()
        for moment in (0.25, 0.7, 1.9):
            # The test is about this moment, so there is nothing else to wait for.
            time.sleep(max(0.0, started + moment - time.monotonic()))
            kill_workers(server)
        while time.monotonic() < started + SECONDS:
            time.sleep(dice.uniform(0, 1))
            kill_workers(server)
        until(lambda: answers(server), LONGEST_PAUSE + A_START, "the model answers by itself")

        assert ask(server.http, "GET", "/v2/health/ready").status == 200
        if from_the_start:
            server.wait_ready()
        server.signal()
        assert server.wait(30) == 0

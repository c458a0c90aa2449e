"""What callers notice of a server that stops while they call it: nothing, until it is gone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from support.asking import Client, ask, numbers
from support.custom import write_model
from support.serving import serving

pytestmark = pytest.mark.e2e

CALLERS = 16


@pytest.mark.parametrize("keeps", [False, True], ids=["new connections", "kept connections"])
def test_while_requests_keep_coming_each_is_answered_until_the_port_is_closed(
    keeps: bool, tmp_path: Path
) -> None:
    asked = Barrier(CALLERS + 1)

    def call() -> list[int]:
        """The statuses of all answers; ends when no connection can be made any more."""
        statuses = []
        with Client(server.http) as client:
            while True:
                one = client.ask if keeps else lambda *request: ask(server.http, *request)
                try:
                    answer = one("POST", "/v2/models/m/infer", numbers(2))
                except ConnectionRefusedError:
                    return statuses
                statuses.append(answer.status)
                if len(statuses) == 1:
                    asked.wait()

    # It ends in time with a status of 0, or the server would have refused the last requests.
    with (
        serving("--drain-timeout", "6", write_model(tmp_path), exit_code=0) as server,
        ThreadPoolExecutor(CALLERS) as threads,
    ):
        calls = [threads.submit(call) for _ in range(CALLERS)]
        asked.wait()
        server.signal()
        for each in calls:
            assert set(each.result()) == {200}

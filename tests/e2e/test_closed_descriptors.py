"""Models that close descriptors they do not own, as code does that makes a daemon of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.services import serving_service, write_service
from support.serving import serving, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
# Longer than a test waits for anything.
PATIENT = ("--infer-timeout", 600)
CLOSE = "os.closerange(3, 4096)"
# Others get the numbers.
REOPEN = f"{CLOSE}\nself.kept = [open('/dev/zero') for _ in range(64)]"
RECONNECT = f"{CLOSE}\nself.kept = [__import__('socket').socketpair() for _ in range(32)]"
each_way = pytest.mark.parametrize(
    "close", [CLOSE, REOPEN, RECONNECT], ids=["closes", "opens files", "opens sockets"]
)
# A process that a model forks has a copy of every descriptor, so that nothing is closed for good.
FORK = "if os.fork() == 0:\n    time.sleep(600)\n"
each_family = pytest.mark.parametrize("first", ["pass\n", FORK], ids=["childless", "with a child"])


def once(root: Path, what: str) -> str:
    """Code that runs for the first time only."""
    body = what.replace("\n", "\n    ")
    return (
        f"if not os.path.exists('{root}/done'):\n    open('{root}/done', 'w').close()\n    {body}"
    )


@each_way
@each_family
def test_a_request_whose_model_closes_the_workers_descriptors_is_answered(
    tmp_path: Path, close: str, first: str
) -> None:
    folder = write_model(tmp_path, once(tmp_path, close) + "\nreturn x * 2", load=first)
    with serving(folder, *PATIENT) as server:
        assert ask(server.http, "POST", INFER, numbers(4)).json["outputs"][0]["data"] == [8.0]


@each_way
@each_family
def test_a_request_after_its_model_closed_the_workers_descriptors_is_answered(
    tmp_path: Path, close: str, first: str
) -> None:
    indented = close.replace("\n", "\n    ")
    load = f"""
def run():
    while not os.path.exists('{tmp_path}/go'): time.sleep(0.01)
    {indented}
    open('{tmp_path}/closed', 'w').close()
import threading
threading.Thread(target=run, daemon=True).start()
"""
    folder = write_model(tmp_path, load=first + once(tmp_path, load))
    with serving(folder, *PATIENT) as server:
        (tmp_path / "go").touch()
        until((tmp_path / "closed").exists, 60, "the descriptors are closed")

        assert ask(server.http, "POST", INFER, numbers(4)).json["outputs"][0]["data"] == [8.0]


@each_family
def test_a_model_that_closes_the_workers_descriptors_while_it_loads_is_loaded_again(
    tmp_path: Path, first: str
) -> None:
    with serving(write_model(tmp_path, load=first + once(tmp_path, CLOSE)), *PATIENT) as server:
        assert ask(server.http, "POST", INFER, numbers(4)).json["outputs"][0]["data"] == [8.0]


@each_family
def test_a_service_that_closes_the_workers_descriptors_is_replaced(
    tmp_path: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = once(tmp_path, first + CLOSE).replace("\n", "\n    ")
    file = write_service(
        tmp_path,
        monkeypatch,
        f"""
svc = Service("closing")

@svc.api(input=JSON(), output=JSON())
async def echo(given):
    {code}
    return given
""",
    )
    with serving_service(file, *PATIENT) as server:
        assert ask(server.http, "POST", "/echo", [1]).json == [1]


def test_a_request_that_always_closes_them_is_poisoned_and_the_next_is_answered(
    tmp_path: Path,
) -> None:
    folder = write_model(tmp_path, f"if x[0] < 0:\n    {CLOSE}\nreturn x * 2")
    with serving(folder, *PATIENT) as server:
        assert ask(server.http, "POST", INFER, numbers(-1)).json["code"] == "poisoned"
        assert ask(server.http, "POST", INFER, numbers(4)).json["outputs"][0]["data"] == [8.0]

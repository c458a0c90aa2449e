"""A served service under many callers: bad ones, those who leave, and kills of its processes."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from support.asking import ask, connect
from support.rounds import ROUNDS
from support.services import in_flight, serving_service, write_service
from support.serving import Server, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(ROUNDS * 20 + 300)]
CALLERS = 16
# Of each round; `make test-endurance` makes it 5,000 and 30 kills.
REQUESTS = 50
KILLS = max(2, ROUNDS * 3 // 10)

SERVICE = """
import pydantic
import PIL.Image
from headrace.io import File, Image, PandasDataFrame, PandasSeries

slow, quick = stored("slow"), stored("quick")
svc = Service("storm", runners=[slow, quick])

class Point(pydantic.BaseModel):
    x: float
    tags: list[str] = []

@svc.api(input=NumpyNdarray(dtype="float64", shape=[-1, 2], enforce_shape=True),
         output=NumpyNdarray())
async def array(x):
    first, second = await asyncio.gather(slow.predict.async_run(x), quick.predict.async_run(x))
    return first + second

@svc.api(input=NumpyNdarray(dtype="float64"), output=NumpyNdarray())
def plain(x):
    return quick.predict.run(slow.predict.run(x))

@svc.api(input=PandasDataFrame(columns=["a"]), output=JSON())
def frame(table):
    return table.to_dict("list")

@svc.api(input=PandasSeries(), output=JSON())
def series(values):
    return len(values)

@svc.api(input=JSON(pydantic_model=Point), output=JSON())
async def point(value):
    return value.x

@svc.api(input=Text(), output=Text())
async def text(value):
    return value[:10]

@svc.api(input=Image(), output=JSON())
def image(picture):
    return picture.size

@svc.api(input=File(), output=Text())
def file(opened):
    return str(len(opened.read()))

@svc.api(input=Multipart(a=NumpyNdarray(), b=JSON()), output=JSON())
async def parts(a, b):
    return [len(a), b]

@svc.api
def pid() -> int:
    return os.getpid()

@svc.api
def end() -> str:
    os._exit(0)

@svc.api
async def abort() -> str:
    os.abort()
"""
MODELS = {"slow": "time.sleep(0.005)\nreturn x", "quick": "return x"}
JSON = "application/json"
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
SOUND = [
    ("/array", JSON, b"[[1, 2]]"),
    ("/plain", JSON, b"[1, 2]"),
    ("/point", JSON, b'{"x": 1}'),
    ("/text", "text/plain", b"abc"),
    ("/file", "application/octet-stream", b"abc"),
    ("/series", JSON, b"[1, 2]"),
    ("/parts", FORM, PART % (b"a", b"[1]") + PART % (b"b", b"{}") + b"--b--\r\n"),
]
BAD_JSON = [
    b"", b"[", b"[1,]", b"nul", b'{"a": 1, "a": 2', b"\xff\xfe", b"[" * 100_000, b"1e999",
    b"[1, NaN", b'"\\ud800"', b"{}" * 2, b"[[1, 2], [3]]", b'[["a", {}]]', b"9" * 10_000,
]  # fmt: skip
BAD_FORMS = [
    ("multipart/form-data", PART % (b"a", b"[1]") + b"--b--\r\n"),
    ("multipart/form-data; boundary=", b"--\r\n\r\n"),
    ("multipart/form-data; boundary=" + "b" * 300, b"x"),
    (FORM, b""),
    (FORM, b"--b--\r\n"),
    (FORM, PART % (b"a", b"[1]")),
    (FORM, PART % (b"a", b"[1]") * 2 + PART % (b"b", b"{}") + b"--b--\r\n"),
    (FORM, PART % (b"x" * 9000, b"[1]") + b"--b--\r\n"),
    (FORM, b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n"),
    (FORM, b"--b\r\nno colon\r\n\r\n1\r\n--b--\r\n"),
    (FORM, b"".join(PART % (b"p%d" % n, b"1") for n in range(5000)) + b"--b--\r\n"),
    (FORM, PART % (b"a", b"[1") + PART % (b"b", b"{") + b"--b--\r\n"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        file = write_service(tmp_path_factory.mktemp("storm"), patch, SERVICE, MODELS)
        with serving_service(file) as server:
            yield server


@pytest.mark.parametrize("path", ["/array", "/plain", "/frame", "/series", "/point", "/parts"])
def test_no_json_that_is_wrong_is_the_servers_fault(server: Server, path: str) -> None:
    for body in BAD_JSON:
        answer = ask(server.http, "POST", path, body, {"content-type": JSON})

        assert answer.status in (200, 400, 415), (body[:20], answer.body)
        assert answer.status == 200 or answer.json["error"]


@pytest.mark.parametrize("path", ["/parts", "/image", "/file", "/array"])
def test_no_form_that_is_wrong_is_the_servers_fault(server: Server, path: str) -> None:
    for kind, body in BAD_FORMS:
        answer = ask(server.http, "POST", path, body, {"content-type": kind})

        assert answer.status in (200, 400, 415), (kind, body[:40], answer.body)
        assert answer.status == 200 or answer.json["error"]


@pytest.mark.parametrize("path", ["/end", "/abort"])
def test_an_endpoint_that_ends_its_process_is_refused_and_the_others_go_on(
    server: Server, path: str
) -> None:
    with ThreadPoolExecutor(CALLERS) as pool:
        asks = [pool.submit(ask, server.http, "POST", "/array", b"[[1, 2]]") for _ in range(8)]
        ended = pool.submit(ask, server.http, "GET", path, timeout=120)

        assert [each.result().json for each in asks] == [[[2, 4]]] * 8
        assert (ended.result().status, ended.result().json["code"]) == (500, "poisoned")
    assert ask(server.http, "GET", "/v2/health/ready").status in (200, 503)
    assert ask(server.http, "POST", "/array", b"[[1, 2]]").json == [[2, 4]]


def test_callers_who_leave_at_every_stage_leave_nothing_behind(server: Server) -> None:
    def call(seed: int) -> int:
        dice = random.Random(seed)
        path, kind, body = dice.choice(SOUND)
        if dice.random() >= 0.2:
            return ask(server.http, "POST", path, body, {"content-type": kind}).status
        head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\n"
        message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        with connect(server.http, 60) as caller:
            caller.sendall(message[: dice.choice([1, 20, len(message) - 1, len(message)])])
            if dice.random() < 0.5:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return 0

    with ThreadPoolExecutor(CALLERS) as pool:
        statuses = list(pool.map(call, range(REQUESTS * ROUNDS)))

    assert set(statuses) == {0, 200}
    until(lambda: in_flight(server, "storm", *MODELS) == 0, 60, "nothing waits or runs any more")
    assert ask(server.http, "POST", "/array", b"[[1, 2]]").json == [[2, 4]]
    assert "this is a bug" not in server.log()


@pytest.mark.parametrize("killed", ["the service", "a model", "both"])
def test_callers_are_answered_or_told_to_retry_while_processes_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    file = write_service(tmp_path, monkeypatch, SERVICE, MODELS)
    dice, done = random.Random(killed), threading.Event()
    refused = []

    def callers(server: Server) -> int:
        answered = 0
        while not done.is_set():
            answer = ask(server.http, "POST", "/array", b"[[1, 2]]")
            if answer.status == 200:
                assert json.loads(answer.body) == [[2, 4]]
                answered += 1
            else:
                refused.append((answer.status, answer.headers.get("retry-after"), answer.body))
        return answered

    with serving_service(file) as server, ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(callers, server) for _ in range(CALLERS)]
        try:
            for _ in range(KILLS):
                own = until(lambda: pid_of(server), 120, "the service answers")
                models = [pid for pid in server.workers() if pid != own]
                for pid in {"the service": [own], "a model": models, "both": [own, *models]}[
                    killed
                ]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                # The test is about this moment, so there is nothing else to wait for.
                done.wait(dice.uniform(0, 0.3))
            until(lambda: pid_of(server), 120, "the service is back")
        finally:
            done.set()
        assert sum(each.result() for each in calls) > 0
        until(
            lambda: in_flight(server, "storm", *MODELS) == 0, 60, "nothing waits or runs any more"
        )

    # A request that three workers died with is refused for good, whoever has killed them.
    kinds = {(status, later, json.loads(body)["code"]) for status, later, body in refused}
    for_now = {(503, "1", "model_not_ready"), (503, "1", "worker_crashed")}
    assert kinds <= {*for_now, (500, None, "poisoned")}


def pid_of(server: Server) -> int:
    """The process of the service; 0 while it does not answer."""
    answer = ask(server.http, "GET", "/pid")
    return int(answer.body) if answer.status == 200 else 0

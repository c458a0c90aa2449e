"""Runners in a served service: shared batches, deadlines, callers who leave, and kills."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from support.asking import Client, ask, connect, numbers
from support.services import BATCHED, in_flight, serving_service, store, write_service
from support.serving import until

pytestmark = pytest.mark.e2e

# Each call leaves a file named after its rows, and waits until `open` is there.
GATED = """
here = os.environ["HEADRACE_HOME"] + "/../"
open(here + f"call-{time.monotonic_ns()}-{len(x)}", "w").close()
while not os.path.exists(here + "open"):
    time.sleep(0.005)
return x + 1
"""
ONE_RUNNER = """
gated = stored("gated"{options})
svc = Service("one", runners=[gated])

@svc.api(input=NumpyNdarray(dtype="float64"), output=NumpyNdarray())
async def add(x):
    return await gated.predict.async_run(x)

@svc.api(input=NumpyNdarray(dtype="float64"), output=NumpyNdarray())
def add_plainly(x):
    return gated.predict.run(x)

@svc.api
def pid() -> int:
    return os.getpid()
"""


def calls(root):
    """The rows of each batch that the model was given, in order."""
    return [int(path.name.rpartition("-")[2]) for path in sorted(root.glob("call-*"))]


def test_calls_of_endpoints_and_requests_of_clients_share_batches(tmp_path, monkeypatch):
    file = write_service(tmp_path, monkeypatch, ONE_RUNNER.format(options=""), {"gated": GATED})
    with serving_service(file) as server, ThreadPoolExecutor(20) as pool:
        # Two take the places of the model; what comes after them waits, and goes out together.
        first = [pool.submit(ask, server.http, "POST", "/add", [0.0]) for _ in range(2)]
        until(lambda: calls(tmp_path), 20, "the model runs")
        paths = ["/add", "/add_plainly"] * 4
        others = [
            pool.submit(ask, server.http, "POST", path, [float(n)]) for n, path in enumerate(paths)
        ]
        direct = pool.submit(ask, server.http, "POST", "/v2/models/gated/infer", numbers(9.0))
        until(lambda: in_flight(server, "gated") == 11, 20, "all of them wait")
        (tmp_path / "open").touch()

        assert [each.result().json for each in first] == [[1.0]] * 2
        assert [each.result().json for each in others] == [[n + 1.0] for n in range(8)]
        assert direct.result().json["outputs"][0]["data"] == [10.0]
    # One batch runs, one is ready, and the rest is the third, however the callers arrived.
    assert sum(calls(tmp_path)) == 11
    assert len(calls(tmp_path)) <= 3


@pytest.mark.parametrize("path", ["/add", "/add_plainly"])
def test_a_caller_who_leaves_withdraws_the_call_of_the_runner(tmp_path, monkeypatch, path):
    file = write_service(tmp_path, monkeypatch, ONE_RUNNER.format(options=""), {"gated": GATED})
    with serving_service(file) as server, ThreadPoolExecutor(2) as pool:
        # One after the other, so that they are two batches, which take all places of the model.
        first = [pool.submit(ask, server.http, "POST", "/add", [0.0])]
        until(lambda: calls(tmp_path), 20, "the first runs")
        first.append(pool.submit(ask, server.http, "POST", "/add", [0.0]))
        until(lambda: in_flight(server, "gated") == 2, 20, "both have arrived")
        with connect(server.http) as leaving:
            body = b"[7.0]"
            head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
            leaving.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            until(lambda: in_flight(server, "gated") == 3, 20, "the third waits")
        until(lambda: in_flight(server, "gated") == 2, 20, "it is withdrawn")
        until(lambda: in_flight(server, "one") == 2, 20, "and so is the endpoint's request")
        (tmp_path / "open").touch()

        assert [each.result().status for each in first] == [200, 200]
    assert sum(calls(tmp_path)) == 2


def test_the_deadline_of_a_request_reaches_the_models_it_asks(tmp_path, monkeypatch):
    file = write_service(tmp_path, monkeypatch, ONE_RUNNER.format(options=""), {"gated": GATED})
    with serving_service(file) as server:
        late = ask(server.http, "POST", "/add", [0.0], {"X-Request-Timeout": "0.3"})
        assert (late.status, late.json["code"]) == (504, "deadline_exceeded")
        (tmp_path / "open").touch()
        until(lambda: in_flight(server, "gated") == 0, 20, "nothing of it is left")

        assert ask(server.http, "POST", "/add", [1.0]).json == [2.0]


def test_a_call_that_takes_longer_than_the_latency_of_its_runner_fails(tmp_path, monkeypatch):
    source = ONE_RUNNER.format(options=", max_latency_ms=200")
    file = write_service(tmp_path, monkeypatch, source, {"gated": GATED})
    with serving_service(file) as server:
        late = ask(server.http, "POST", "/add", [0.0])
        (tmp_path / "open").touch()

        assert (late.status, late.json["code"]) == (504, "deadline_exceeded")


def test_two_runners_run_side_by_side(tmp_path, monkeypatch):
    # Each model waits for the other to have been called.
    wait = """
here = os.environ["HEADRACE_HOME"] + "/../"
open(here + "{mine}", "w").close()
while not os.path.exists(here + "{other}"):
    time.sleep(0.005)
return x * {factor}
"""
    source = """
    one, two = stored("one"), stored("two", name="second")
    svc = Service("both", runners=[one, two])

    @svc.api(input=NumpyNdarray(), output=JSON())
    async def ask_both(x):
        found = await asyncio.gather(one.predict.async_run(x), two.async_run(x))
        return [each.tolist() for each in found]
    """
    models = {
        "one": wait.format(mine="a", other="b", factor=10),
        "two": wait.format(mine="b", other="a", factor=100),
    }
    file = write_service(tmp_path, monkeypatch, source, models)
    with serving_service(file, "--parallel-workers", 2) as server:
        assert ask(server.http, "POST", "/ask_both", [1, 2]).json == [[10, 20], [100, 200]]
        names = [row["name"] for row in ask(server.http, "POST", "/v2/repository/index", {}).json]

    assert names == ["both", "one", "second"]


def test_what_a_model_refuses_reaches_the_caller_of_the_endpoint(tmp_path, monkeypatch):
    source = """
    picky = stored("picky")
    svc = Service("s", runners=[picky])

    @svc.api(input=NumpyNdarray(), output=NumpyNdarray())
    def ask(x):
        return picky.run(x)
    """
    refuse = "raise InvalidInput('too many rows') if len(x) > 2 else ValueError('secret')"
    file = write_service(tmp_path, monkeypatch, source, {"picky": refuse})
    with serving_service(file) as server:
        refused = ask(server.http, "POST", "/ask", [1, 2, 3])
        failed = ask(server.http, "POST", "/ask", [1])

    assert (refused.status, refused.json["error"]) == (400, "too many rows")
    assert (failed.status, failed.json["code"]) == (500, "model_error")
    assert "secret" not in failed.json["error"]


@pytest.mark.parametrize("victim", ["the service", "the model"])
def test_a_killed_worker_under_load_costs_no_answer(tmp_path, monkeypatch, victim):
    file = write_service(
        tmp_path, monkeypatch, ONE_RUNNER.format(options=""), {"gated": "return x + 1"}
    )
    with serving_service(file) as server:
        service = ask(server.http, "GET", "/pid").json
        model = next(pid for pid in server.workers() if pid != service)
        target = {"the service": service, "the model": model}[victim]
        answers = []

        def load(path):
            with Client(server.http) as client:
                for number in range(60):
                    answer = client.ask("POST", path, [float(number)])
                    answers.append((answer.status, answer.json == [number + 1.0]))

        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(load, path) for path in ["/add", "/add_plainly"] * 4]
            until(lambda: len(answers) > 60, 60, "the load runs")
            os.kill(target, signal.SIGKILL)
            for each in running:
                each.result()

        assert set(answers) == {(200, True)}
        assert len(answers) == 480
        assert target not in server.workers()


def test_an_endpoint_that_calls_a_runner_without_awaiting_it_is_refused_with_the_way_to_do_it(
    tmp_path, monkeypatch
):
    source = """
    doubler = stored("doubler")
    svc = Service("s", runners=[doubler])

    @svc.api(input=NumpyNdarray(), output=NumpyNdarray())
    async def ask(x):
        return doubler.predict.run(x)
    """
    file = write_service(tmp_path, monkeypatch, source, {"doubler": "return x * 2"})
    with serving_service(file) as server:
        assert ask(server.http, "POST", "/ask", [1]).status == 500
        assert "await doubler.predict.async_run" in server.log()


def test_rows_along_another_dimension_are_merged_there(tmp_path, monkeypatch):
    # The model sees time first and rows second, and answers with one row for each.
    store_it = partial(store, signatures={"predict": {"batchable": True, "batch_dim": [1, 0]}})
    source = """
    series = stored("series")
    svc = Service("s", runners=[series])

    @svc.api(input=NumpyNdarray(dtype="float64"), output=NumpyNdarray())
    async def total(x):
        return await series.predict.async_run(x)
    """
    file = write_service(tmp_path, monkeypatch, source)
    store_it("series", GATED.replace("return x + 1", "assert len(x) == 3\nreturn x.sum(axis=0)"))
    with serving_service(file) as server, ThreadPoolExecutor(12) as pool:
        ask_it = partial(ask, server.http, "POST", "/total")
        first = [pool.submit(ask_it, [[1.0], [2.0], [3.0]]) for _ in range(2)]
        until(lambda: calls(tmp_path), 20, "the model runs")
        others = [pool.submit(ask_it, [[1.0, n], [2.0, n], [3.0, n]]) for n in range(5)]
        until(lambda: in_flight(server, "series") == 7, 20, "all of them wait")
        (tmp_path / "open").touch()

        assert [each.result().json for each in first] == [[6.0]] * 2
        assert [each.result().json for each in others] == [[6.0, 3.0 * n] for n in range(5)]
    # The first two may have met, and those that waited went out as one.
    assert len(calls(tmp_path)) <= 3


def test_methods_of_a_model_are_called_by_their_names(tmp_path, monkeypatch):
    source = """
    import sklearn.linear_model
    iris = headrace.sklearn.get("iris").to_runner()
    svc = Service("s", runners=[iris])

    @svc.api(input=NumpyNdarray(), output=JSON())
    async def classify(x):
        labels, odds = await asyncio.gather(
            iris.predict.async_run(x), iris.predict_proba.async_run(x)
        )
        return {"labels": labels.tolist(), "shape": list(odds.shape)}
    """
    from sklearn.linear_model import LogisticRegression

    import headrace

    file = write_service(tmp_path, monkeypatch, source)
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    both = {**BATCHED, "predict_proba": {"batchable": False}}
    headrace.sklearn.save_model("iris", model, signatures=both)
    with serving_service(file) as server:
        answer = ask(server.http, "POST", "/classify", [[-5], [5], [6]])

    assert answer.json == {"labels": [0, 1, 1], "shape": [3, 2]}


BLOCKED = """
adder = stored("adder"{options})
svc = Service("blocked", runners=[adder])
here = os.environ["HEADRACE_HOME"] + "/../"

@svc.api
async def block() -> str:
    open(here + "blocked", "w").close()
    while not os.path.exists(here + "open"):
        time.sleep(0.005)
    return "open"

@svc.api(input=NumpyNdarray(dtype="float64"), output=NumpyNdarray())
def add(x):
    return adder.predict.run(x)
"""


def test_a_coroutine_that_blocks_the_loop_holds_up_no_plain_function(tmp_path, monkeypatch):
    text = BLOCKED.format(options="")
    file = write_service(tmp_path, monkeypatch, text, {"adder": "return x + 1"})
    with serving_service(file) as server, ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(ask, server.http, "GET", "/block")
        until((tmp_path / "blocked").exists, 20, "the loop is blocked")

        assert ask(server.http, "POST", "/add", [1.0]).json == [2.0]
        assert not blocked.done()
        (tmp_path / "open").touch()
        assert blocked.result().status == 200


MANY = """
echo = stored("echo")
svc = Service("many", runners=[echo])

@svc.api(input=JSON(), output=JSON())
async def totals(count):
    rows = [np.full((1, 2000), number, np.float64) for number in range(count)]
    found = await asyncio.gather(*map(echo.predict.async_run, rows))
    return [each.shape == (1, 2000) and each.max() for each in found]

@svc.api(input=JSON(), output=Text())
async def long(size):
    return "x" * size
"""


def test_calls_that_are_more_than_a_socket_holds_are_all_answered(tmp_path, monkeypatch):
    file = write_service(tmp_path, monkeypatch, MANY, {"echo": "return x"})
    with serving_service(file) as server, ThreadPoolExecutor(16) as pool:
        # 16 MB that one turn of the service's loop sends.
        assert ask(server.http, "POST", "/totals", 1000).json == list(range(1000))

        asked = [pool.submit(ask, server.http, "POST", "/long", 250_000) for _ in range(100)]
        assert {each.result().body for each in asked} == {b"x" * 250_000}
        assert "failed" not in server.log()

"""Runners of a user's own classes, local and in a served service."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace import models
from support import values
from support.asking import ask
from support.services import in_flight, serving_service, write_service
from support.serving import until
from support.values import VALUES

pytestmark = pytest.mark.e2e

SERVICE = """
from values import VALUES, same

class Values(headrace.Runnable):
    SUPPORTED_RESOURCES = ("cpu",)
    SUPPORTS_CPU_MULTI_THREADING = False

    def __init__(self, start=0):
        self.start = start

    @headrace.Runnable.method(batchable=False)
    def returned(self, value):
        return value

    @headrace.Runnable.method()
    def made(self, name):
        return VALUES[name]

    @headrace.Runnable.method
    def added(self, a, b=10, *, c=100):
        return self.start + a + b + c

    @headrace.Runnable.method(batchable=True)
    def doubled(self, rows):
        return rows * 2

    @headrace.Runnable.method(batchable=True)
    def shortened(self, rows):
        return rows[:1]

    @headrace.Runnable.method(batchable=True)
    def listed(self, rows):
        return [{"row": row} for row in rows]

    @headrace.Runnable.method
    def pid(self):
        return os.getpid()

Values.add_method(lambda self, rows: rows + self.start, "moved", batchable=True, batch_dim=(0, 0))
values = headrace.Runner(Values, runnable_init_params={"start": 1000})
second = headrace.Runner(Values, name="second")
svc = Service("s", runners=[values, second])

async def body(name):
    value = VALUES[name]
    returned, made, plain = await asyncio.gather(
        values.returned.async_run(value),
        values.made.async_run(name),
        asyncio.get_running_loop().run_in_executor(None, values.returned.run, value),
    )
    return [same(returned, value), same(made, value), same(plain, value)]

@svc.api(input=Text(), output=JSON())
async def check(name):
    return await body(name)

@svc.api(input=JSON(), output=JSON())
async def call(asked):
    runner = {"values": values, "second": second}[asked.get("runner", "values")]
    method = getattr(runner, asked["method"])
    args = [np.array(each) if isinstance(each, list) else each for each in asked.get("args", [])]
    return await method.async_run(*args, **asked.get("named", {}))
"""


def write(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(values.__file__, root / "values.py")
    return write_service(root, monkeypatch, SERVICE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        file = write(tmp_path_factory.mktemp("runnables"), patch)
        with serving_service(file) as server:
            yield server


@pytest.fixture
def local(tmp_path, monkeypatch):
    """The module of the service, whose runners run in this process."""
    file = write(tmp_path, monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.spec_from_file_location("service_of_runnables", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.values.init_local(quiet=True)
    return module


def called(server, method, *args, runner="values", **named):
    asked = {"method": method, "args": list(args), "named": named, "runner": runner}
    return ask(server.http, "POST", "/call", asked)


@pytest.mark.parametrize("name", VALUES)
def test_a_served_runner_returns_what_its_method_returned(server, name):
    answer = ask(server.http, "POST", "/check", name.encode(), {"Content-Type": "text/plain"})

    assert (answer.status, answer.json) == (200, [True, True, True])


def test_a_local_runner_returns_what_its_method_returned(local):
    for name in VALUES:
        assert asyncio.run(local.body(name)) == [True, True, True], name


def test_arguments_go_by_position_and_by_name(server):
    assert called(server, "added", 1).json == 1111
    assert called(server, "added", 1, 20, c=300).json == 1321
    assert called(server, "added", 1, runner="second").json == 111
    assert called(server, "moved", [1, 2]).json == [1001, 1002]


@pytest.mark.parametrize(
    ("args", "named", "words"),
    [
        ((), {}, "values.added: missing a required argument: 'a'"),
        ((1, 2, 3), {}, "values.added: too many positional arguments"),
        ((1,), {"d": 1}, "values.added: got an unexpected keyword argument 'd'"),
    ],
)
def test_arguments_that_a_method_does_not_take_are_refused_by_its_name(server, args, named, words):
    answer = called(server, "added", *args, **named)

    assert (answer.status, answer.json["error"]) == (400, words)


def test_a_batchable_method_that_returns_a_wrong_number_of_rows_is_named(server, local):
    answer = called(server, "shortened", [1, 2, 3])
    with pytest.raises(Exception, match=r"values\.shortened is batchable") as caught:
        local.values.shortened.run([1, 2, 3])

    assert (answer.status, answer.json["code"]) == (500, "bad_model_output")
    assert answer.json["error"].startswith("values.shortened is batchable")
    assert answer.json["error"] == str(caught.value)
    assert "given 3 and returned 1" in str(caught.value)


def test_each_runnable_is_in_a_process_of_its_own_and_calls_meet_there(server):
    first, second = called(server, "pid").json, called(server, "pid", runner="second").json

    assert first != second
    assert {first, second} <= set(server.workers())


def test_clients_reach_a_runnable_by_the_inference_protocol(server):
    def infer(outputs, *inputs):
        body = {"inputs": list(inputs), "outputs": [{"name": name} for name in outputs]}
        return ask(server.http, "POST", "/v2/models/values/infer", body)

    def number(name, value):
        return {"name": name, "shape": [1], "datatype": "INT64", "data": [value]}

    assert infer(["doubled"], number("x", 4)).json["outputs"][0]["data"] == [8]
    assert infer(["added"], number("a", 1), number("b", 2)).json["outputs"][0]["data"] == [1103]
    refused = infer([], number("x", 4))
    assert (refused.status, "the method to call" in refused.json["error"]) == (400, True)


def test_what_only_runners_may_say_is_not_heard_from_clients(server):
    value = {"form": {"array": "S100000000"}}
    body = {
        "inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}],
        "outputs": [{"name": "returned"}],
        "parameters": {"python_value": value},
    }
    answer = ask(server.http, "POST", "/v2/models/values/infer", body)

    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [1])


GATED = """
class Gated(headrace.Runnable):
    def __init__(self, folder):
        self.folder = folder

    def note(self, method, x):
        open(f"{self.folder}/call-{method}-{time.monotonic_ns()}-{len(x)}", "w").close()
        while not os.path.exists(f"{self.folder}/open"):
            time.sleep(0.005)
        return x + 1

    @headrace.Runnable.method(batchable=True)
    def many(self, x):
        return self.note("many", x)

    @headrace.Runnable.method(batchable=True)
    def few(self, x):
        return self.note("few", x)

    @headrace.Runnable.method(batchable=False)
    def single(self, x):
        return self.note("single", x)

gated = headrace.Runner(
    Gated,
    runnable_init_params={"folder": str(HERE)},
    max_batch_size=50,
    method_configs={"few": {"max_batch_size": 2}, "many": {"max_latency_ms": 60000}},
)
svc = Service("s", runners=[gated])

@svc.api(input=JSON(), output=JSON())
async def call(asked):
    method, x = asked
    return await getattr(gated, method).async_run(np.array([x]))
"""


def test_each_method_has_its_own_batches(tmp_path, monkeypatch):
    file = write_service(tmp_path, monkeypatch, GATED)
    with serving_service(file) as server, ThreadPoolExecutor(20) as pool:
        asked = [(method, n) for n in range(6) for method in ("many", "few", "single")]
        first = [pool.submit(ask, server.http, "POST", "/call", ["single", 0]) for _ in range(2)]
        until(lambda: list(tmp_path.glob("call-single-*")), 20, "the first runs")
        # They take both places of the model, so that all others wait.
        until(lambda: in_flight(server, "gated") == 2, 20, "both have arrived")
        others = [pool.submit(ask, server.http, "POST", "/call", each) for each in asked]
        until(lambda: in_flight(server, "gated") == 20, 20, "all of them wait")
        (tmp_path / "open").touch()

        assert [each.result().json for each in first] == [[1]] * 2
        assert [each.result().json for each in others] == [[n + 1] for _, n in asked]

    def rows(method):
        calls = sorted(tmp_path.glob(f"call-{method}-*"))
        return [int(path.name.rpartition("-")[2]) for path in calls]

    assert rows("many") == [6]
    assert rows("few") == [2, 2, 2]
    assert rows("single") == [1] * 8


def test_the_models_of_a_runnable_are_described_with_its_service(tmp_path, monkeypatch):
    source = """
    class Two(headrace.Runnable):
        def __init__(self):
            self.names = [headrace.models.get(name).tag.name for name in ("a", "b")]

        @headrace.Runnable.method
        def named(self):
            return self.names

    loaded = [headrace.models.get("a"), headrace.models.get("b")]
    two = headrace.Runner(Two, models=loaded)
    svc = Service("s", runners=[two, headrace.Runner(Two, name="other", models=loaded[:1])])

    @svc.api(input=None, output=JSON())
    async def names():
        return [await two.named.async_run(), [str(each.tag) for each in two.models]]
    """
    file = write_service(tmp_path, monkeypatch, source, {"a": "return x", "b": "return x"})
    tags = [str(models.get(name).tag) for name in ("a", "b")]
    with serving_service(file) as server:
        assert ask(server.http, "GET", "/names").json == [["a", "b"], tags]

    from headrace.sources.discovery import open_source

    assert open_source(f"{file}:svc").described()["models"] == tags


def test_a_runnable_is_loaded_again_with_its_service(tmp_path, monkeypatch):
    source = """
    class Says(headrace.Runnable):
        @headrace.Runnable.method
        def word(self):
            return "before"

    says = headrace.Runner(Says)
    svc = Service("s", runners=[says])

    @svc.api(input=None, output=JSON())
    async def word():
        return await says.word.async_run()
    """
    file = write_service(tmp_path, monkeypatch, source)
    with serving_service(file, "--reload") as server:
        assert ask(server.http, "GET", "/word").json == "before"
        file.write_text(file.read_text().replace("before", "after"))

        until(lambda: ask(server.http, "GET", "/word").json == "after", 60, "it is loaded again")


def test_a_constructor_that_fails_says_why(tmp_path, monkeypatch):
    source = """
    class Needs(headrace.Runnable):
        def __init__(self, weights):
            pass

        @headrace.Runnable.method
        def word(self):
            return 1

    svc = Service("s", runners=[headrace.Runner(Needs)])
    """
    file = write_service(tmp_path, monkeypatch, source)
    with serving_service(file) as server:
        ready = ask(server.http, "GET", "/v2/health/ready")

    assert ready.status == 503
    assert "runnable_init_params of 'Needs': missing a required argument: 'weights'" in json.dumps(
        ready.json
    )

"""`headrace.client` against a whole server: values, errors and retries as users see them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headrace.client import AsyncClient, Client, InvalidRequest, NotServed, ServerError, TimedOut
from support.custom import write_model
from support.serving import Server, serving, starting
from support.wine import save_mlflow, trained, wines

pytestmark = pytest.mark.e2e

PREDICT = """
if (x < 0).any():
    raise ValueError("negative")
time.sleep(float(x.max()) if x.max() < 10 else 0)
return x * 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("client"), PREDICT)) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    """The address of each transport."""
    return server.http if request.param == "http" else f"grpc://{server.announced['grpc']}"


def test_a_table_is_predicted_as_the_model_itself_does(tmp_path):
    folder = save_mlflow(tmp_path / "wine")
    table = wines()[:50].set_index(np.arange(100, 150))

    with serving(folder, "--name", "wine") as running, Client(running.http) as client:
        answer = client.predict("wine", table)

    assert answer.iloc[:, 0].to_numpy().tolist() == trained().predict(table).tolist()
    assert answer.index.tolist() == list(range(100, 150))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_an_array_is_answered_exactly(url, binary):
    value = np.array([10.1, 1e300, 5e-324])

    with Client(url) as client:
        np.testing.assert_array_equal(
            client.infer("m", {"x": value}, binary=binary).to_numpy(), value * 2
        )


def test_health_and_metadata_are_returned(url):
    with Client(url) as client:
        assert client.live()
        assert client.ready()
        assert client.model_ready("m")
        assert client.metadata()["name"] == "headrace"
        assert client.model_metadata("m")["inputs"][0]["name"] == "x"


def test_errors_carry_status_code_and_message(server):
    with Client(server.http) as client:
        with pytest.raises(NotServed) as unknown:
            client.infer("nobody", {"x": [1.0]})
        with pytest.raises(InvalidRequest) as misnamed:
            client.infer("m", {"why": [1.0]})
        with pytest.raises(ServerError) as failed:
            client.infer("m", {"x": [-1.0]})

    assert (unknown.value.status, unknown.value.code) == (404, "not_found")
    assert (misnamed.value.status, misnamed.value.code) == (400, "invalid_argument")
    assert "'why'" in misnamed.value.message
    assert (failed.value.status, failed.value.code) == (500, "model_error")


def test_errors_are_the_same_over_grpc(server):
    with Client(f"grpc://{server.announced['grpc']}") as client:
        with pytest.raises(NotServed) as unknown:
            client.infer("nobody", {"x": [1.0]})
        with pytest.raises(InvalidRequest) as misnamed:
            client.infer("m", {"why": [1.0]})
        with pytest.raises(ServerError) as failed:
            client.infer("m", {"x": [-1.0]})

    assert (unknown.value.status, unknown.value.code) == (None, "not_found")
    assert misnamed.value.code == "invalid_argument"
    assert "'why'" in misnamed.value.message
    assert failed.value.code == "model_error"


def test_a_model_is_unloaded_listed_and_loaded_again(url):
    with Client(url) as client:
        assert [model["state"] for model in client.index()] == ["READY"]
        client.unload("m")
        assert client.index(ready=True) == []
        client.load("m")
        assert client.predict("m", {"x": [20.0]})["output-1"].tolist() == [40.0]


def test_time_runs_out_at_the_deadline(url):
    with Client(url, timeout=0.5) as client, pytest.raises(TimedOut):
        client.infer("m", {"x": [5.0]})


def test_threads_may_share_a_client(url):
    values = list(range(10, 60))

    with Client(url) as client, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda v: client.predict("m", np.array([v])).item(), values))

    assert answers == [value * 2 for value in values]


def test_tasks_may_share_an_async_client(url):
    async def ask() -> list[float]:
        async with AsyncClient(url) as client:
            asking = [client.predict("m", {"x": [float(v)]}) for v in range(10, 40)]
            return [answer["output-1"].item() for answer in await asyncio.gather(*asking)]

    assert asyncio.run(ask()) == [value * 2 for value in range(10, 40)]


def test_a_model_that_is_still_loading_is_waited_for(tmp_path):
    folder = write_model(tmp_path, load="time.sleep(1)")

    with starting(folder) as running:
        running.wait_listening()
        with Client(running.http, retries=10) as client:
            assert not client.ready()
            assert client.predict("m", {"x": [1.0]})["output-1"].tolist() == [2.0]


def test_a_client_that_gives_up_leaves_the_server_well(url):
    with Client(url, timeout=0.2) as client, pytest.raises(TimedOut):
        client.infer("m", {"x": [1.0]})
    with Client(url) as client:
        assert client.predict("m", {"x": [20.0]})["output-1"].tolist() == [40.0]


def test_importing_the_client_imports_no_server_and_no_pandas():
    program = "import headrace.client, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pandas", "starlette", "uvicorn", "uvloop", "mlflow", "sklearn", "grpc"}

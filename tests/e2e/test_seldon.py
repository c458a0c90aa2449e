"""Seldon Core 2's side of its contract: the calls of its agent over gRPC."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.mounts import python_with
from support.repository_calls import called
from support.serving import serving

pytestmark = pytest.mark.e2e

# The port that the platform expects may be taken on this machine.
SELDON = ("--platform", "seldon", "--grpc-port", "0")


def test_seldons_agent_loads_and_unloads_models_over_grpc(tmp_path: Path):
    agent = tmp_path / "agent"
    agent.mkdir()
    python = python_with(tmp_path, {"/mnt/agent": agent})
    variables = {
        "HEADRACE_CONTAINER": "1",
        "MLSERVER_HTTP_PORT": "0",
        "MLSERVER_GRPC_PORT": "0",
        "MLSERVER_MODELS_DIR": "/mnt/agent/models",
        "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
    }
    with (
        serving(env=variables, python=python, ports=()) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        assert ask(server.http, "GET", "/v2/health/ready").status == 200
        assert called(channel, "ServerLive").live
        assert not called(channel, "RepositoryIndex").models

        write_model(agent / "models", name="iris_1", parameters={"version": "1"})
        for _ in range(2):
            called(channel, "RepositoryModelLoad", model_name="iris_1")
            answer = ask(server.http, "POST", "/v2/models/iris_1/infer", numbers(2))
            assert answer.json["outputs"][0]["data"] == [4]
        (entry,) = called(channel, "RepositoryIndex").models
        assert (entry.name, entry.state) == ("iris_1", "READY")

        called(channel, "RepositoryModelUnload", model_name="iris_1")
        (entry,) = called(channel, "RepositoryIndex").models
        assert (entry.name, entry.state) == ("iris_1", "UNAVAILABLE")
        assert ask(server.http, "GET", "/v2/health/ready").status == 200
        assert "platform seldon (/mnt/agent)" in server.log()


def test_seldons_agent_may_repeat_a_load_that_is_done_or_under_way(tmp_path: Path):
    models = tmp_path / "models"
    count = "open(os.path.join(HERE, '..', 'loads'), 'a').write('.')"
    begin = "open(os.path.join(HERE, 'begin')).read()"
    folder = write_model(models, load=f"{count}; {begin}", name="iris_1")
    os.mkfifo(folder / "begin")
    variables = {"MLSERVER_MODELS_DIR": str(models)}

    with (
        serving(*SELDON, env=variables) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
        ThreadPoolExecutor(2) as threads,
    ):
        under_way = [
            threads.submit(called, channel, "RepositoryModelLoad", model_name="iris_1")
            for _ in range(2)
        ]
        # Opening it waits for the model, which has begun to load by then.
        (folder / "begin").write_text("now")
        for load in under_way:
            load.result()
        called(channel, "RepositoryModelLoad", model_name="iris_1")
        assert (models / "loads").read_text() == "."

        (folder / "begin").unlink()
        (folder / "begin").write_text("changed")
        called(channel, "RepositoryModelLoad", model_name="iris_1")
        assert (models / "loads").read_text() == ".."


def test_seldons_agent_may_load_and_unload_many_models_at_once_and_again(tmp_path: Path):
    names = ["a_1", "b_1", "c_1"]
    for name in names:
        write_model(tmp_path / "models", name=name)
    variables = {"MLSERVER_MODELS_DIR": str(tmp_path / "models")}

    with (
        serving(*SELDON, env=variables) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
        ThreadPoolExecutor(2 * len(names)) as threads,
    ):

        def at_once(method: str) -> None:
            # Each twice, as an agent does whose first call timed out.
            calls = [threads.submit(called, channel, method, model_name=name) for name in 2 * names]
            for call in calls:
                call.result()

        for _ in range(3):
            at_once("RepositoryModelLoad")
            assert states(channel) == dict.fromkeys(names, "READY")
            for name in names:
                answer = ask(server.http, "POST", f"/v2/models/{name}/infer", numbers(2))
                assert answer.json["outputs"][0]["data"] == [4]
            at_once("RepositoryModelUnload")
            assert states(channel) == dict.fromkeys(names, "UNAVAILABLE")
        assert called(channel, "ServerLive").live


def states(channel: grpc.Channel) -> dict[str, str]:
    """The state of each model in the index; the agent skips those without a name."""
    return {each.name: each.state for each in called(channel, "RepositoryIndex").models}


def test_seldons_agent_gets_the_state_of_each_model_and_a_status_for_each_failure(tmp_path: Path):
    broken = write_model(
        tmp_path / "models", name="broken_1", load="open(os.path.join(HERE, 'weights')).close()"
    )
    variables = {"MLSERVER_MODELS_DIR": str(tmp_path / "models")}

    with (
        serving(*SELDON, env=variables) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        assert states(channel) == {"broken_1": "UNAVAILABLE"}
        for name, status in [
            ("broken_1", grpc.StatusCode.FAILED_PRECONDITION),
            ("absent_1", grpc.StatusCode.NOT_FOUND),
        ]:
            with pytest.raises(grpc.RpcError) as failed:
                called(channel, "RepositoryModelLoad", model_name=name)
            assert failed.value.code() is status
        assert states(channel)["broken_1"] == "UNAVAILABLE"

        (broken / "weights").touch()
        called(channel, "RepositoryModelLoad", model_name="broken_1")
        assert states(channel) == {"broken_1": "READY"}


def test_an_explainer_of_seldon_runs_inside_the_server(tmp_path: Path):
    # The agent writes this for explainers, which call back to the server.
    models = tmp_path / "models"
    predict = "return np.array([float(os.getpid())])"
    for name, workers in [("explainer_1", {"parallel_workers": 0}), ("model_1", {})]:
        write_model(models, predict, name=name, **workers)
    variables = {"MLSERVER_MODELS_DIR": str(models)}

    with (
        serving(*SELDON, env=variables) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        pids = {}
        for name in ("explainer_1", "model_1"):
            called(channel, "RepositoryModelLoad", model_name=name)
            answer = ask(server.http, "POST", f"/v2/models/{name}/infer", numbers(0))
            pids[name] = answer.json["outputs"][0]["data"][0]
        assert pids["explainer_1"] == server.process.pid != pids["model_1"]

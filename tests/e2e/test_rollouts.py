"""A canary of a followed model, with the registry of a real MLflow server."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.sources.follow import Followed
from headrace.sources.model_file import read_model
from support.api_keys import bearer, write_keys
from support.asking import ask
from support.pages import blocks
from support.registered import World, answers
from support.serving import COMMAND, serving, until
from support.tracking import tracking_server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.registry,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(900),
]

PAGE = Path(__file__).parents[2] / "docs/how-to/rollouts.md"
FLAGS = ["--follow-interval", "0.2", "--env-manager", "local"]
PATIENCE = 120
CANARY = {"alias": "@challenger", "percent": 20}
# What is wrong with a version that fails each of its requests.
FAULTS = {
    "raises": "raise RuntimeError('no')",
    "crashes": "import os; os._exit(1)",
    "answers what is no output": "return object()",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with tracking_server(tmp_path_factory.mktemp("registry")) as address:
        yield World(address)


@contextmanager
def inference_client(server):
    """The method `ModelInfer` of a server."""
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        yield channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )


class Rollout:
    """A model with a stable version that answers 1 and a canary that does something else."""

    def __init__(self, world, name, folder, body, **follow):
        self.world, self.name = world, name
        self.stable = world.register(name, answers(1))
        world.point(name, "champion", self.stable)
        self.canary = world.register(name, body)
        world.point(name, "challenger", self.canary)
        settings = {
            "name": name,
            "implementation": "mlflow",
            "parameters": {"uri": f"models:/{name}@champion"},
            "follow": {"canary": CANARY, **follow},
        }
        self.folder = folder / "models"
        (self.folder / name).mkdir(parents=True)
        (self.folder / name / "model-settings.json").write_text(json.dumps(settings))

    def serve(self, *flags, **env):
        return serving(self.folder, *FLAGS, *flags, env={**self.world.env, **env})

    def ask(self, server, **headers):
        """The version that answered, by the header and by the answer; both say the same."""
        body = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}
        answer = ask(server.http, "POST", f"/v2/models/{self.name}/invocations", body, headers)
        assert answer.status == 200, answer.body
        versions = {1.0: self.stable, 2.0: self.canary}
        version = answer.headers["x-model-version"]
        assert versions[answer.json["predictions"][0]] == version
        return version

    def ask_grpc(self, client, *metadata):
        """The version that answered, by the metadata and by the message; both say the same."""
        answer, call = client.with_call(self.message(), metadata=metadata, timeout=60)
        assert dict(call.initial_metadata())["x-model-version"] == answer.model_version
        return answer.model_version

    def ask_stream(self, server, count):
        """The versions that answered the messages of one stream."""
        with grpc.insecure_channel(server.announced["grpc"]) as channel:
            stream = channel.stream_stream(
                "/inference.GRPCInferenceService/ModelStreamInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
            answers = list(stream(iter([self.message()] * count), timeout=60))
        return [answer.model_version for answer in answers]

    def message(self):
        data = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 1])
        data.contents.fp64_contents.append(1.0)
        return pb.ModelInferRequest(model_name=self.name, inputs=[data])

    def command(self, server, verb, reason=None):
        """What a command about the rollout prints."""
        words = [verb, self.name, "--url", server.http, *(["--reason", reason] if reason else [])]
        done = subprocess.run(
            [*COMMAND, "rollout", *words], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def wait(self, server):
        """Wait until the canary gets requests."""
        begins = f"version {self.canary} gets"
        until(lambda: begins in server.log(), PATIENCE, "the canary gets requests")

    def status(self, server):
        return ask(server.http, "GET", f"/v2/repository/models/{self.name}/rollout").json


def test_a_canary_gets_its_share_of_the_requests(world, tmp_path):
    rollout = Rollout(world, "shared", tmp_path, answers(2))
    with rollout.serve() as server:
        rollout.wait(server)
        seen = Counter(rollout.ask(server) for _ in range(100))
        assert abs(seen[rollout.canary] - 20) <= 1
        assert rollout.ask(server, **{"x-model-version": rollout.canary}) == rollout.canary
        with inference_client(server) as client:
            seen = Counter(rollout.ask_grpc(client) for _ in range(50))
            assert abs(seen[rollout.canary] - 10) <= 1
            named = rollout.ask_grpc(client, ("x-model-version", rollout.canary))
            assert named == rollout.canary
        seen = Counter(rollout.ask_stream(server, 50))
        assert abs(seen[rollout.canary] - 10) <= 1
        page = ask(server.metrics, "GET", "/metrics").body.decode()
        assert f'headrace_rollout_percent{{model="shared",version="{rollout.canary}"}} 20.0' in page


@pytest.mark.parametrize("fault", FAULTS)
def test_a_canary_that_fails_is_rolled_back_and_no_caller_notices(world, tmp_path, fault):
    name = fault.replace(" ", "-")
    rollout = Rollout(world, name, tmp_path, FAULTS[fault], rollback={"min_requests": 3})
    with rollout.serve() as server:
        rollout.wait(server)
        with inference_client(server) as client:
            seen = Counter(rollout.ask_stream(server, 7))
            seen.update(rollout.ask_grpc(client) for _ in range(7))
            seen.update(rollout.ask(server) for _ in range(26))
        assert seen == {rollout.stable: 40}
        assert f"version {rollout.canary} is rolled back: 3 of 3 requests failed" in server.log()


def test_a_canary_that_is_slow_is_rolled_back(world, tmp_path):
    rules = {"min_requests": 3, "p99_ratio": 3}
    slow = "import time; time.sleep(1.5); return [2.0] * len(model_input)"
    rollout = Rollout(world, "slow", tmp_path, slow, rollback=rules)
    with rollout.serve() as server:
        rollout.wait(server)
        seen = Counter(rollout.ask(server) for _ in range(40))
        assert seen == {rollout.stable: 37, rollout.canary: 3}
        assert "99th percentile of its latency" in server.log()


def test_a_canary_that_hangs_fails_nobody(world, tmp_path):
    hangs = "import time; time.sleep(1000)"
    rollout = Rollout(world, "hangs", tmp_path, hangs, rollback={"min_requests": 2})
    with rollout.serve("--infer-timeout", "8") as server:
        rollout.wait(server)
        assert Counter(rollout.ask(server) for _ in range(12)) == {rollout.stable: 12}
        assert "2 deadline_exceeded" in server.log()


def test_a_version_that_cannot_score_its_example_gets_nothing(world, tmp_path):
    rollout = Rollout(world, "example", tmp_path, "raise RuntimeError('no')")
    rollout.canary = world.register("example", "raise RuntimeError('no')", example=True)
    world.point("example", "challenger", rollout.canary)
    with rollout.serve() as server:
        held = f"version {rollout.canary} gets no requests: the input example logged with it fails"
        until(lambda: held in server.log(), PATIENCE, "it is held back")
        assert Counter(rollout.ask(server) for _ in range(10)) == {rollout.stable: 10}
        assert rollout.status(server)["canary"] is None


def test_commands_hold_and_promote_a_canary_and_roll_it_back(world, tmp_path):
    rollout = Rollout(world, "decided", tmp_path, answers(2), keep=0)
    with rollout.serve() as server:
        rollout.wait(server)
        assert "20 % of the requests" in rollout.command(server, "status")
        assert "is held" in rollout.command(server, "hold")
        assert "is promoted: it is good" in rollout.command(server, "promote", "it is good")
        promoted = {"version": rollout.canary}
        until(lambda: rollout.status(server)["stable"] == promoted, PATIENCE, "it answers")
        assert {rollout.ask(server) for _ in range(5)} == {rollout.canary}
        assert "is rolled back" in rollout.command(server, "rollback")
        until(lambda: rollout.ask(server) == rollout.stable, PATIENCE, "the one before answers")


def test_a_restart_and_another_server_know_what_was_decided(world, tmp_path):
    rollout = Rollout(world, "kept", tmp_path, FAULTS["raises"], rollback={"min_requests": 2})
    homes = [{"HEADRACE_HOME": str(tmp_path / name)} for name in ("one", "two")]
    with rollout.serve("--follow-tags", **homes[1]) as other:
        rollout.wait(other)
        with rollout.serve("--follow-tags", **homes[0]) as server:
            rollout.wait(server)
            assert Counter(rollout.ask(server) for _ in range(12)) == {rollout.stable: 12}
            assert rollout.status(server)["rollout"]["outcome"] == "rolled_back"

            def knows():
                return rollout.status(other)["rollout"]["outcome"] == "rolled_back"

            until(knows, PATIENCE, "the other server knows")
            assert rollout.status(other)["canary"] is None
    with rollout.serve(**homes[0]) as server:
        assert rollout.status(server)["rollout"]["outcome"] == "rolled_back"
        assert Counter(rollout.ask(server) for _ in range(10)) == {rollout.stable: 10}


def test_a_key_for_the_model_reaches_its_canary_and_another_key_neither(world, tmp_path):
    rollout = Rollout(world, "guarded", tmp_path, answers(2))
    scopes = ["infer", "read", "admin"]
    keys = {"its": {"scopes": scopes, "models": ["guarded"]}}
    keys |= {"others": {"scopes": scopes, "models": ["other"]}}
    file = write_keys(tmp_path / "keys.json", **keys)
    with rollout.serve("--api-keys-file", file) as server, inference_client(server) as client:
        rollout.wait(server)
        state = "/v2/repository/models/guarded/rollout"
        body = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}
        for version in (rollout.stable, rollout.canary):
            named, own = {"x-model-version": version}, f"/versions/{version}"
            metadata = [("authorization", "Bearer hr_its"), ("x-model-version", version)]
            assert rollout.ask(server, **bearer("its"), **named) == version
            assert rollout.ask_grpc(client, *metadata) == version
            for key, reached in (("its", {200}), ("others", {404})):
                headers = bearer(key)
                path = "/v2/models/guarded"
                assert reached == {
                    ask(server.http, "POST", f"{path}/invocations", body, headers | named).status,
                    ask(server.http, "GET", path, headers=headers | named).status,
                    ask(server.http, "GET", state, headers=headers).status,
                }
                for verb in ("/invocations", "/infer", "/raw", ""):
                    method = "POST" if verb else "GET"
                    answer = ask(server.http, method, path + own + verb, body, headers)
                    assert (answer.status == 404) is (key == "others"), (verb, answer.body)
            with pytest.raises(grpc.RpcError) as refused:
                rollout.ask_grpc(
                    client, ("authorization", "Bearer hr_others"), ("x-model-version", version)
                )
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        index = ask(server.http, "POST", "/v2/repository/index", {}, bearer("others"))
        decided = ask(server.http, "POST", f"{state}/promote", {}, bearer("others"))
        seen = Counter(rollout.ask(server, **bearer("its")) for _ in range(50))

    assert index.json == []
    assert decided.status == 404
    assert abs(seen[rollout.canary] - 10) <= 1


def test_the_settings_of_the_page_are_read(tmp_path):
    settings = [text for language, text in blocks(PAGE) if language == "json"]
    (tmp_path / "model-settings.json").write_text(settings[0])
    found = read_model(tmp_path / "model-settings.json", {}).settings
    assert found.fault == ""
    follow = Followed(found).follow
    assert (follow.canary.shares, follow.canary.step_seconds) == ([10, 50, 100], 900)
    assert follow.rollback.p99_ratio == 2
    assert json.loads(f"{{{settings[1]}}}")["canary"]["sticky"] == {"header": "x-user-id"}

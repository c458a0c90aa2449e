"""Files of keys that change, limits of keys, and what sends keys."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest

import headrace
from headrace.access import keys_file
from headrace.client.client_errors import ClientError
from headrace.errors import ConfigurationError
from headrace.protocol.open_inference import GRPC_SERVICE
from support.api_keys import KEYS, bearer, write_keys
from support.asking import ask
from support.custom import write_model
from support.serving import COMMAND, Server, serving, starting, until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models"), name="other")


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    keys = write_keys(tmp_path_factory.mktemp("access") / "keys.json", **KEYS)
    with serving(model, "--api-keys-file", keys) as running:
        yield running


def test_a_key_that_is_added_counts_and_one_that_is_revoked_does_not(
    model: Path, tmp_path: Path
) -> None:
    first, second = ({name: {"scopes": ["read"]}} for name in ("first", "second"))
    keys = write_keys(tmp_path / "keys.json", **first)
    with serving(model, "--api-keys-file", keys) as server:

        def passes(name: str) -> bool:
            return ask(server.http, "GET", "/v2", headers=bearer(name)).status == 200

        assert (passes("first"), passes("second")) == (True, False)
        write_keys(keys, **first, **second)
        until(lambda: passes("second"), 60, "the new key counts")
        assert passes("first")
        keys.write_text("[")
        until(lambda: "stay in force" in server.log(), 60, "the fault is logged")
        assert passes("first")
        write_keys(keys, **second)
        until(lambda: not passes("first"), 60, "the old key counts no more")
        assert passes("second")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "it has no keys"),
        ({"old": {"scopes": ["read"], "expires": "2020-01-01T00:00:00Z"}}, "have expired"),
    ],
)
def test_a_file_that_lets_nobody_in_is_warned_of(
    model: Path, tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    file = write_keys(tmp_path / "keys.json", **keys)
    with serving(model, "--api-keys-file", file) as server:
        assert f"{words}, so no key is accepted" in server.log()
        write_keys(file, new={"scopes": ["read"]})
        until(
            lambda: ask(server.http, "GET", "/v2", headers=bearer("new")).status == 200,
            *(60, "the new key counts"),
        )
        assert server.log().count("no key is accepted") == 1


def test_a_key_with_a_rate_is_refused_beyond_it(model: Path, tmp_path: Path) -> None:
    slow = {"scopes": ["read", "infer"], "rate": 0.01, "burst": 3}
    keys = write_keys(tmp_path / "keys.json", slow=slow, fast={"scopes": ["read"]})
    with serving(model, "--api-keys-file", keys) as server:
        answers = [ask(server.http, "GET", "/v2", headers=bearer("slow")) for _ in range(4)]
        assert [each.status for each in answers] == [200, 200, 200, 429]
        assert answers[-1].json["code"] == "rate_limited"
        assert 90 <= int(answers[-1].headers["retry-after"]) <= 100
        with (
            grpc.insecure_channel(server.announced["grpc"]) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            channel.unary_unary(f"/{GRPC_SERVICE}/ModelInfer")(
                b"", metadata=tuple(bearer("slow").items())
            )
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailing = dict(refused.value.trailing_metadata())
        assert int(trailing["grpc-retry-pushback-ms"]) > 80_000
        assert ask(server.http, "GET", "/v2", headers=bearer("fast")).status == 200
        # Probes are not counted.
        assert ask(server.http, "GET", "/v2/health/live", headers=bearer("slow")).status == 200


def test_a_server_for_everybody_warns_and_changes_nothing(model: Path, tmp_path: Path) -> None:
    unload = "/v2/repository/models/other/unload"
    with serving(model, "--host", "0.0.0.0") as server:
        assert "--api-keys-file" in server.log()
        refused = ask(server.http, "POST", unload)
        assert (refused.status, "--allow-repository-api" in refused.json["error"]) == (403, True)
    keys = write_keys(tmp_path / "keys.json", **KEYS)
    with serving(model, "--host", "0.0.0.0", "--api-keys-file", keys) as server:
        assert "--api-keys-file" not in server.log()
        assert ask(server.http, "POST", unload).status == 401
        assert ask(server.http, "POST", unload, headers=bearer("admin")).status == 200


def test_probes_name_no_model_to_strangers(tmp_path: Path) -> None:
    write_model(tmp_path, name="vault", load="raise ValueError('no')")
    write_model(tmp_path, name="other")
    keys = write_keys(tmp_path / "keys.json", **KEYS)
    with serving(tmp_path, "--api-keys-file", keys) as server:
        ready = "/v2/health/ready"
        asked = {
            key: ask(server.http, "GET", ready, headers=bearer(key) if key else None)
            for key in (None, "infer", "restricted", "read")
        }
    assert {each.status for each in asked.values()} == {503}
    assert {key for key, each in asked.items() if b"vault" in each.body} == {"read"}


def test_a_wrong_file_of_keys_stops_the_start(model: Path, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.json", one={"scopes": ["reed"]})
    with starting(model, "--api-keys-file", keys) as server:
        assert server.wait(60) == 2
        assert "keys[0].scopes" in server.log()


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_our_client_sends_its_key(
    server: Server, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{scheme}://{server.announced[scheme].removeprefix('http://')}"
    with headrace.Client(url, retries=0) as client, pytest.raises(ClientError) as refused:
        client.metadata()
    assert refused.value.code == "unauthenticated"
    with headrace.Client(url, api_key="hr_read") as client:
        assert client.metadata()["name"] == "headrace"
    monkeypatch.setenv("HEADRACE_API_KEY", "hr_infer")
    with headrace.Client(url) as client:
        assert client.predict("other", [[2.0]]) == [[4.0]]


def test_a_file_is_scored_with_the_key_in_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x\n1\n2\n")
    (tmp_path / "key").write_text("hr_infer\n")

    def score(*flags: object) -> subprocess.CompletedProcess[str]:
        given = ["-u", server.http, "-m", "other", "-i", "rows.csv", "-o", "out.jsonl", *flags]
        return subprocess.run(
            [*COMMAND, "infer", *map(str, given)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    refused, scored = score("--retries", 0), score("--api-key-file", "key")

    assert (refused.returncode, "send an API key" in refused.stderr) == (1, True)
    assert scored.returncode == 0, scored.stderr
    assert "hr_infer" not in refused.stderr + scored.stderr + scored.stdout


def test_keys_that_are_created_at_the_same_time_are_all_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    names = [f"key-{number}" for number in range(8)]
    command = [*COMMAND, "keys", "create", "--file", str(path)]
    started = [subprocess.Popen([*command, name], stdout=subprocess.DEVNULL) for name in names]

    assert [each.wait(120) for each in started] == [0] * len(names)
    assert sorted(entry.name for entry in keys_file.read(str(path), "--file")) == names


def test_a_pipe_is_no_file_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError, match="expected a plain file"):
        keys_file.read(str(path), "--api-keys-file")


def test_a_rate_that_no_wait_can_be_told_for_is_refused(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys.json", slow={"scopes": ["infer"], "rate": 5e-324})
    with pytest.raises(ConfigurationError, match="rate: expected requests a second, at least"):
        keys_file.read(str(path), "--api-keys-file")

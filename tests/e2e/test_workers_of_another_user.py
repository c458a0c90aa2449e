"""`--worker-uid`, with a server of root's and models that look around in their workers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.executors.confinement import PRIVILEGES
from support.another_user import UID, Place, readable_place
from support.asking import ask, numbers
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with readable_place() as found:
        yield found


@pytest.fixture
def models(place: Place, request: pytest.FixtureRequest) -> Path:
    """A folder for models that the other user may read."""
    folder = place.folder / request.node.name
    folder.mkdir()
    return folder


def of_another_user(place: Place, *args: object, exit_code: int = 0) -> Any:
    """A server whose workers are the other user's."""
    return serving(
        *args, "--worker-uid", UID, python=place.python, env=place.env, exit_code=exit_code
    )


def seen(server: Server, value: float = 1) -> Any:
    answer = ask(server.http, "POST", "/v2/models/m/infer", numbers(value))
    assert answer.status == 200, answer.body
    return answer.json["outputs"][0]["data"]


def doubled(server: Server, array: np.ndarray) -> np.ndarray:
    """What the model answers with, in the binary form."""
    size = {"binary_data_size": array.nbytes}
    tensor = {"name": "x", "datatype": "FP64", "shape": list(array.shape), "parameters": size}
    parameters = {"binary_data_output": True}
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = ask(server.http, "POST", "/v2/models/m/infer", head + array.tobytes(), headers)
    assert answer.status == 200, answer.body
    return np.frombuffer(answer.body[-array.nbytes :])


def test_a_worker_has_this_user_and_this_group_and_none_of_the_servers(
    place: Place, models: Path
) -> None:
    in_groups = models / "python"
    in_groups.write_text(
        f"#!{place.python}\nimport os, sys\nos.setgroups([4, {UID + 1}])\n"
        f"os.execv({str(place.python)!r}, [{str(place.python)!r}, *sys.argv[1:]])\n"
    )
    in_groups.chmod(0o755)
    write_model(models, "return np.array([*os.getresuid(), *os.getresgid(), len(os.getgroups())])")
    flags = ("--worker-uid", UID)
    with serving(models, *flags, python=in_groups, env=place.env) as server:
        front = Path(f"/proc/{server.process.pid}/status").read_text()
        assert f"Groups:\t4 {UID + 1}" in front
        assert seen(server) == [UID] * 6 + [0]


def test_a_worker_reads_no_file_of_the_servers_and_ends_no_process_of_its(
    place: Place, models: Path
) -> None:
    secret = models / "secret"
    secret.write_text("canary")
    secret.chmod(0o600)
    predict = f"""
    environ = f"/proc/{{os.getppid()}}/environ"
    refused = []
    for attempt in (
        lambda: open({str(secret)!r}), lambda: open(environ), lambda: os.kill(os.getppid(), 0)
    ):
        try:
            attempt()
        except PermissionError:
            refused.append(1)
    return np.array(refused)
    """
    write_model(models, predict)
    with of_another_user(place, models) as server:
        assert seen(server) == [1, 1, 1]


def test_the_temporary_folder_of_a_worker_belongs_to_its_user_and_goes_with_it(
    place: Place, models: Path
) -> None:
    write_model(models, "import tempfile\nreturn np.array([tempfile.mkdtemp()])")
    with of_another_user(place, models) as server:
        made = Path(seen(server)[0])
        own = made.parent
        assert own.name.startswith("headrace-worker-")
        assert (own.stat().st_uid, own.stat().st_gid) == (UID, UID)
        assert own.stat().st_mode & 0o777 == 0o700
    assert not own.exists()


def test_the_home_of_a_worker_is_one_that_its_user_may_write_to(place: Place, models: Path) -> None:
    predict = """
    from pathlib import Path
    (Path.home() / ".cache").mkdir()
    return np.array([str(Path.home()), os.environ.get("USER", ""), os.environ.get("LOGNAME", "")])
    """
    write_model(models, predict)
    with of_another_user(place, models) as server:
        home, user, login = seen(server)
        assert Path(home).name.startswith("headrace-worker-")
        assert (user, login) == ("", "")


def test_large_tensors_lie_in_memory_that_is_shared_with_the_worker(
    place: Place, models: Path
) -> None:
    write_model(models)
    write_model(
        models, 'return np.array(["memfd:" in open("/proc/self/maps").read()])', name="maps"
    )
    large = np.arange(4_000_000, dtype=np.float64)
    with of_another_user(place, models, "--parallel-workers", 1) as server:
        assert np.array_equal(doubled(server, large), large * 2)
        answer = ask(server.http, "POST", "/v2/models/maps/infer", numbers(1))
        assert answer.json["outputs"][0]["data"] == [True]


def test_a_worker_that_was_killed_comes_again_as_the_same_user(place: Place, models: Path) -> None:
    write_model(models, "return np.array([os.getpid(), os.getuid()])")
    with of_another_user(place, models) as server:
        first, _ = seen(server)
        os.kill(first, signal.SIGKILL)
        second, user = seen(server)
        assert second != first
        assert user == UID


def test_a_worker_ends_with_a_server_that_is_killed(place: Place, models: Path) -> None:
    write_model(models)
    with of_another_user(place, models, exit_code=-signal.SIGKILL) as server:
        assert server.workers()
        server.signal(signal.SIGKILL)
        until(lambda: not server.workers(), 60, "the workers end")


def test_a_worker_of_another_user_can_do_without_a_network(place: Place, models: Path) -> None:
    if why := place.refusal(PRIVILEGES, "--no-network"):
        pytest.skip(f"user {UID} has no namespaces here: {why}")
    predict = """
    names = [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line]
    return np.array([str(os.getuid()), *names])
    """
    write_model(models, predict)
    with of_another_user(place, models, "--worker-network", "none") as server:
        assert seen(server) == [str(UID), "lo"]

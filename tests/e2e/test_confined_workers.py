"""What the code of a model can get at in its worker, each tried by a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import ConfigurationError
from headrace.executors import confinement
from headrace.settings import ServerSettings
from support.asking import Answer, ask, numbers
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "OPENAI_API_KEY": "canary-openai",
    "HEADRACE_TEST_API_KEY": "canary-own",
}


def infer(server: Server, value: float = 1, model: str = "m") -> Answer:
    return ask(server.http, "POST", f"/v2/models/{model}/infer", numbers(value))


def told(folder: Path, find: str, *flags: str, env: dict[str, str] | None = None) -> Any:
    """What the expression `find` says in the worker of a model, in `load`."""
    write_model(folder, load=f"import json, tempfile\nprint('TOLD ' + json.dumps({find}))")
    with serving(folder, *flags, env=env) as server:
        assert infer(server).status == 200
        return told_in(server)


def told_in(server: Server) -> Any:
    line = next(line for line in server.log().splitlines() if "TOLD " in line)
    return json.JSONDecoder().raw_decode(line.partition("TOLD ")[2])[0]


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), {"AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"}),
        (("--worker-env", "PATH"), set()),
        (("--worker-env", "AWS_*,OTHER"), {"AWS_SECRET_ACCESS_KEY"}),
    ],
    ids=["by default", "the usual", "and a pattern"],
)
def test_a_model_finds_only_these_secrets_in_its_variables(
    tmp_path: Path, flags: tuple[str, ...], kept: set[str]
) -> None:
    env = dict(SECRETS)
    found = told(
        tmp_path, f"{{k: os.environ[k] for k in {list(env)} if k in os.environ}}", *flags, env=env
    )

    assert found == {name: SECRETS[name] for name in kept}


def test_a_worker_has_a_folder_of_its_own_that_goes_with_it(tmp_path: Path) -> None:
    write_model(
        tmp_path, load="import json, tempfile\nprint('TOLD ' + json.dumps(tempfile.mkdtemp()))"
    )
    with serving(tmp_path) as server:
        made = Path(told_in(server))
        assert made.is_dir()
        own = made.parent
        assert own.stat().st_mode & 0o777 == 0o700

    assert own.name.startswith("headrace-worker-")
    assert not own.exists()


def test_the_folder_of_a_worker_that_is_killed_is_removed(tmp_path: Path) -> None:
    load = "import tempfile\nopen(os.path.join(HERE, 'own'), 'w').write(tempfile.mkdtemp())"
    folder = write_model(tmp_path, load=load, predict="os._exit(1) if x[0] > 1 else None\nreturn x")
    with serving(tmp_path) as server:
        own = Path((folder / "own").read_text()).parent
        assert infer(server, 5).status == 500
        until(lambda: not own.exists(), 60, "its folder is removed")
        assert infer(server).status == 200
        assert Path((folder / "own").read_text()).parent != own


def test_a_crash_leaves_no_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "models", predict="os.abort() if x[0] > 1 else None\nreturn x")
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path / "models") as server:
        assert infer(server, 5).json["code"] == "poisoned"

    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_no_program_gives_a_worker_more_than_it_has(tmp_path: Path) -> None:
    status = "[l.split()[1] for l in open('/proc/self/status') if l.startswith('NoNewPrivs')]"

    assert told(tmp_path, status) == ["1"]


REACH = """
import socket
def reaches(address):
    try:
        socket.create_connection(address, 5).close()
    except OSError:
        return False
    return True
mine = socket.create_server(("127.0.0.1", 0))
"""


def test_a_worker_without_a_network_answers_and_reaches_nobody_but_itself(tmp_path: Path) -> None:
    try:
        confinement.check(ServerSettings(worker_network="none"))
    except ConfigurationError as refused:
        pytest.skip(refused.message)
    # The port of the server comes with the request.
    predict = (
        REACH + "return np.array([reaches(('127.0.0.1', int(x[0]))), reaches(mine.getsockname())])"
    )
    write_model(tmp_path, predict=predict.strip())

    found = []
    for network in ("host", "none"):
        with serving(tmp_path, "--worker-network", network) as server:
            answer = infer(server, float(server.http.rpartition(":")[2]))
            found.append(answer.json["outputs"][0]["data"])
    assert found == [[True, True], [False, True]]


MIB = 1024 * 1024
HUNGRY = "kept = np.ones(int(x[0]) * 131072)\nreturn kept[:1]"


def test_a_model_gets_no_more_memory_than_its_limit_and_others_do_not_notice(
    tmp_path: Path,
) -> None:
    write_model(tmp_path, HUNGRY, name="bounded", memory_limit=1024 * MIB)
    write_model(tmp_path, HUNGRY, name="free")
    with serving(tmp_path) as server:
        before = set(server.workers())
        over = infer(server, 1500, "bounded")

        assert (over.status, over.json["code"]) == (507, "memory_short")
        assert f"(memory_limit is {1024 * MIB} bytes)" in over.json["error"]
        assert infer(server, 100, "bounded").status == 200
        assert infer(server, 1500, "free").status == 200
        assert set(server.workers()) == before


def test_a_model_that_is_too_large_for_its_limit_does_not_load(tmp_path: Path) -> None:
    write_model(tmp_path, load="self.kept = np.ones(200_000_000)", memory_limit=1024 * MIB)
    write_model(tmp_path, name="other")
    with serving(tmp_path) as server:
        answer = ask(server.http, "POST", "/v2/repository/models/m/load")

        assert (answer.status, answer.json["code"]) == (507, "memory_short")
        assert infer(server, 1, "other").status == 200


def test_a_variable_for_workers_that_the_server_has_not_is_in_the_log(tmp_path: Path) -> None:
    write_model(tmp_path)
    with serving(tmp_path, "--worker-env", "PATH,OPENAI_KEY") as server:
        assert "workers do not get it: 'OPENAI_KEY'" in server.log()


def test_a_limit_too_small_for_a_worker_is_named_in_place_of_a_stack_trace(tmp_path: Path) -> None:
    write_model(tmp_path, memory_limit=1000)
    write_model(tmp_path, name="other")
    with serving(tmp_path) as server:
        assert infer(server, 1, "other").status == 200
        assert "memory_limit of 1000 bytes" in server.log()
        assert "Traceback" not in server.log()


def test_a_model_cannot_choose_to_run_inside_a_server_that_confines_it(tmp_path: Path) -> None:
    write_model(tmp_path, parallel_workers=0)
    write_model(tmp_path, name="other")
    with serving(tmp_path, "--worker-env", "PATH") as server:
        reason = ask(server.http, "GET", "/v2/health/ready").json["models"]["m"]

    assert "asks to run inside the server" in reason

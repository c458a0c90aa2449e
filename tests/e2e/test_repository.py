"""Loading, replacing and unloading models while the server answers."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.asking import Answer, Client, ask, numbers
from support.custom import write_model
from support.serving import serving, until

pytestmark = pytest.mark.e2e

INDEX = "/v2/repository/index"
READY = "/v2/health/ready"

# The answer shows which load gave it: the file is read while loading.
LOAD = "self.factor = float(open(os.path.join(HERE, 'factor')).read())"
PREDICT = "return x * self.factor"


def write(root: Path, factor: object, name: str = "m", **settings: object) -> Path:
    """A model that multiplies by what the file `factor` says when it is loaded."""
    folder = root / name
    if not folder.exists():
        write_model(root, predict=PREDICT, load=LOAD, name=name, **settings)
    (folder / "factor").write_text(str(factor))
    return folder


def load(url: str, name: str = "m") -> Answer:
    return ask(url, "POST", f"/v2/repository/models/{name}/load")


def unload(url: str, name: str = "m") -> Answer:
    return ask(url, "POST", f"/v2/repository/models/{name}/unload")


def infer(url: str, path: str = "m") -> Answer:
    return ask(url, "POST", f"/v2/models/{path}/infer", numbers(1))


def value(answer: Answer) -> float:
    assert answer.status == 200, answer
    return float(answer.json["outputs"][0]["data"][0])


class Crowd:
    """Clients that send requests without a pause, each on its own connection."""

    def __init__(self, url: str, clients: int) -> None:
        self.latest = 0.0
        self.answered = 0
        self.failed: list[Answer] = []
        self.stale: list[float] = []
        self._url = url
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._done = [self._pool.submit(self._ask) for _ in range(clients)]

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for done in self._done:
            done.result()

    def _ask(self) -> None:
        with Client(self._url) as client:
            while not self._over.is_set():
                least = self.latest
                answer = client.ask("POST", "/v2/models/m/infer", numbers(1))
                self.answered += 1
                if answer.status != 200:
                    self.failed.append(answer)
                elif value(answer) < least:
                    self.stale.append(value(answer))


def test_thirty_reloads_under_thirty_two_clients_fail_no_request(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with serving(tmp_path) as server, Crowd(server.http, 32) as crowd:
        for factor in range(2, 32):
            write(tmp_path, factor)
            before = crowd.answered
            assert load(server.http).status == 200
            # Every request from now on is answered by the new load.
            crowd.latest = float(factor)
            until(lambda before=before: crowd.answered > before + 32, 20, "the crowd continues")

        assert crowd.failed == []
        assert crowd.stale == []


def test_load_and_unload_under_clients_answer_well_or_not_ready(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with serving(tmp_path) as server, Crowd(server.http, 32) as crowd:
        for _ in range(30):
            before = crowd.answered
            assert unload(server.http).status == 200
            assert infer(server.http).status == 503
            assert load(server.http).status == 200
            assert infer(server.http).status == 200
            until(lambda before=before: crowd.answered > before + 32, 20, "the crowd continues")

        assert {(answer.status, answer.json["code"]) for answer in crowd.failed} <= {
            (503, "model_not_ready"),
            (503, "model_unavailable"),
        }


def test_the_index_follows_a_model_through_its_states(tmp_path: Path) -> None:
    write(tmp_path, 1, parameters={"version": "3"})
    entry = {"name": "m", "version": "3", "state": "READY", "reason": ""}
    with serving(tmp_path) as server:
        assert ask(server.http, "POST", INDEX).json == [entry]
        assert unload(server.http).json == {}
        gone = {**entry, "state": "UNAVAILABLE", "reason": "unloaded"}
        assert ask(server.http, "POST", INDEX, {}).json == [gone]
        assert ask(server.http, "POST", INDEX, {"ready": True}).json == []
        assert infer(server.http).json["code"] == "model_unavailable"
        assert ask(server.http, "GET", READY).status == 200
        assert load(server.http).json == {}
        assert ask(server.http, "POST", INDEX, {"ready": True}).json == [entry]
        assert value(infer(server.http)) == 1


def test_a_failed_load_says_why_and_the_old_one_still_serves(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with serving(tmp_path) as server:
        write(tmp_path, "no number")
        refused = load(server.http)

        assert (refused.status, refused.json["code"]) == (422, "load_failed")
        assert "raised ValueError while loading" in refused.json["error"]
        [entry] = ask(server.http, "POST", INDEX).json
        assert entry["state"] == "READY"
        assert "raised ValueError while loading" in entry["reason"]
        assert "could not convert string to float" in server.log()
        assert value(infer(server.http)) == 1
        assert ask(server.http, "GET", READY).status == 200


def test_settings_that_turned_wrong_name_no_path_to_clients(tmp_path: Path) -> None:
    folder = write(tmp_path, 1)
    with serving(tmp_path) as server:
        (folder / "model-settings.json").write_text("{")
        refused = load(server.http)

        assert (refused.status, refused.json["code"]) == (422, "load_failed")
        assert str(tmp_path) not in refused.json["error"]
        assert "model-settings.json" in server.log()
        assert value(infer(server.http)) == 1


def test_settings_are_read_again(tmp_path: Path) -> None:
    folder = write(tmp_path, 1)
    with serving(tmp_path) as server:
        settings = json.loads((folder / "model-settings.json").read_text())
        changed = {**settings, "platform": "changed"}
        (folder / "model-settings.json").write_text(json.dumps(changed))
        assert load(server.http).status == 200

        assert ask(server.http, "GET", "/v2/models/m").json["platform"] == "changed"


def test_a_folder_added_later_is_served_once_it_is_loaded(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert ask(server.http, "GET", READY).status == 503
        assert ask(server.http, "POST", INDEX).json == []
        assert load(server.http).status == 404
        write(tmp_path, 7)
        assert load(server.http).status == 200

        assert value(infer(server.http)) == 7


def test_a_second_version_is_added_by_a_load(tmp_path: Path) -> None:
    write(tmp_path, 2, "old", parameters={"version": "2"})
    for folder in tmp_path.iterdir():
        renamed(folder)
    with serving(tmp_path) as server:
        renamed(write(tmp_path, 10, "new", parameters={"version": "10"}))
        assert value(infer(server.http)) == 2
        assert load(server.http).status == 200

        assert ask(server.http, "GET", "/v2/models/m").json["versions"] == ["2", "10"]
        assert value(infer(server.http)) == 10
        assert value(infer(server.http, "m/versions/2")) == 2
        assert infer(server.http, "m/versions/10").json["model_version"] == "10"


def renamed(folder: Path) -> None:
    file = folder / "model-settings.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "name": "m"}))


def test_two_loads_of_one_model_at_once_conflict(tmp_path: Path) -> None:
    slow = LOAD + "\ntime.sleep(1 if self.factor > 1 else 0)"
    write_model(tmp_path, predict=PREDICT, load="open(os.path.join(HERE, 'loading'), 'a')\n" + slow)
    folder = write(tmp_path, 1)
    with serving(tmp_path) as server, ThreadPoolExecutor() as pool:
        write(tmp_path, 2)
        (folder / "loading").unlink()
        first = pool.submit(load, server.http)
        until((folder / "loading").exists, 60, "the first load has begun")

        second = load(server.http)

        assert (second.status, second.json["code"]) == (409, "conflict")
        assert value(infer(server.http)) == 1
        assert first.result().status == 200
        assert value(infer(server.http)) == 2


def test_models_are_not_loaded_at_startup_if_a_flag_says_so(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with serving(tmp_path, "--no-load-models-at-startup") as server:
        assert ask(server.http, "GET", READY).status == 200
        assert infer(server.http).status == 503
        assert load(server.http).status == 200
        assert value(infer(server.http)) == 1


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--host", "0.0.0.0"], 403),
        (["--host", "0.0.0.0", "--allow-repository-api"], 200),
        (["--no-allow-repository-api"], 403),
    ],
    ids=["beyond loopback", "allowed", "forbidden"],
)
def test_who_may_load_and_unload(tmp_path: Path, flags: list[str], status: int) -> None:
    write(tmp_path, 1)
    with serving(tmp_path, *flags) as server:
        answers = [load(server.http), unload(server.http)]

        assert [answer.status for answer in answers] == [status, status]
        if status == 403:
            assert all("--allow-repository-api" in answer.json["error"] for answer in answers)
        assert ask(server.http, "POST", INDEX).status == 200


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory):
    """A server whose model is not reloaded."""
    folder = tmp_path_factory.mktemp("models")
    write(folder, 1)
    with serving(folder) as server:
        yield server.http


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("models/x/load", None, 404),
        ("models/x/unload", None, 404),
        ("index", b"{", 400),
        ("index", b"[]", 400),
        ("index", b'{"ready": "\xff"}', 400),
        ("index", {"ready": "yes"}, 400),
        ("models/m/load", {"parameters": {"config": "{}"}}, 501),
        ("models/m/unload", {"parameters": {"unload_dependents": True}}, 200),
    ],
    ids=[
        "an unknown model",
        "an unknown model to unload",
        "not JSON",
        "no object",
        "no UTF-8",
        "no boolean",
        "settings inside the request",
        "dependents",
    ],
)
def test_what_is_refused(quiet: str, path: str, body: object, status: int) -> None:
    answer = ask(quiet, "POST", f"/v2/repository/{path}", body)

    assert answer.status == status, answer


def test_the_routes_answer_post_only(quiet: str) -> None:
    for path in ("index", "models/m/load", "models/m/unload"):
        assert ask(quiet, "GET", f"/v2/repository/{path}").status == 405


def test_the_routes_are_in_the_openapi_document_and_the_extension_in_the_metadata(
    quiet: str,
) -> None:
    paths = ask(quiet, "GET", "/openapi.json").json["paths"]

    assert {path for path in paths if path.startswith("/v2/repository")} == {
        "/v2/repository/index",
        "/v2/repository/models/{name}/load",
        "/v2/repository/models/{name}/unload",
    }
    assert "model_repository" in ask(quiet, "GET", "/v2").json["extensions"]


def test_no_counter_falls_when_a_model_is_loaded_again_or_fails_to(tmp_path):
    write_model(tmp_path)
    with serving(tmp_path) as server:
        model = tmp_path / "m" / "model-settings.json"
        good = model.read_text()
        assert ask(server.http, "POST", "/v2/models/m/infer", numbers(1)).status == 200
        for verb, settings, status in [
            ("unload", good, 200),
            ("load", good.replace('"implementation": "', '"implementation": "no'), 422),
            ("load", good, 200),
        ]:
            model.write_text(settings)
            assert ask(server.http, "POST", f"/v2/repository/models/m/{verb}").status == status
            text = ask(server.http, "GET", "/metrics").body.decode()

            assert 'model_infer_request_success_total{model="m",version=""} 1.0' in text
            assert 'headrace_batches_total{model="m",version=""} 1.0' in text

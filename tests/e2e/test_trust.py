"""What `--trust formats` keeps from running: each attack leaves a mark where its code ran."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
import skops.io
import yaml
from sklearn.linear_model import LinearRegression

from support.asking import ask
from support.custom import write_model
from support.serving import Server, serving

pytestmark = pytest.mark.e2e


class Attack:
    """A folder of a model, and the mark that its code leaves."""

    def __init__(self, root: Path, marks: Path, name: str) -> None:
        self.folder = root / name
        self.folder.mkdir()
        self.mark = marks / name

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)

    @property
    def code(self) -> str:
        return f"import os\nos.makedirs({str(self.mark)!r}, exist_ok=True)\n"

    def settings(self, implementation: str, **more: Any) -> None:
        settings = {"name": self.folder.name, "implementation": implementation, **more}
        (self.folder / "model-settings.json").write_text(json.dumps(settings))

    def mlflow(self, loader: str, flavors: dict[str, Any] | None = None, **pyfunc: Any) -> None:
        self.settings("mlflow")
        pyfunc = {"loader_module": loader, "python_version": "3.11", **pyfunc}
        raw = {"flavors": {"python_function": pyfunc, **(flavors or {})}}
        (self.folder / "MLmodel").write_text(yaml.safe_dump(raw))


def pickled(attack: Attack, implementation: str, file: str) -> None:
    attack.settings(implementation, parameters={"uri": f"./{file}"})
    (attack.folder / file).write_bytes(pickle.dumps(attack))


def a_joblib_file(attack: Attack) -> None:
    attack.settings("sklearn")
    joblib.dump(attack, attack.folder / "model.joblib")


def a_joblib_file_with_the_name_of_a_booster(attack: Attack) -> None:
    attack.settings("sklearn", parameters={"uri": "./model.json"})
    joblib.dump(attack, attack.folder / "model.json")


def a_compressed_pickle(attack: Attack) -> None:
    attack.settings("sklearn", parameters={"uri": "./model.pkl.gz"})
    (attack.folder / "model.pkl.gz").write_bytes(gzip.compress(pickle.dumps(attack)))


def a_pickle_of_lightgbm(attack: Attack) -> None:
    pickled(attack, "lightgbm", "model.pkl")


def a_pickle_of_any_object(attack: Attack) -> None:
    pickled(attack, "pickle", "model.pkl")


def a_class(attack: Attack) -> None:
    attack.settings("mine:Model")
    (attack.folder / "mine.py").write_text(attack.code)


def a_file_with_a_class(attack: Attack) -> None:
    attack.settings("inner/own.py:Model")
    (attack.folder / "inner").mkdir()
    (attack.folder / "inner/own.py").write_text(attack.code)


def a_python_model(attack: Attack) -> None:
    attack.mlflow("mlflow.pyfunc.model", python_model="python_model.pkl")
    (attack.folder / "python_model.pkl").write_bytes(pickle.dumps(attack))


def a_python_model_in_another_folder(attack: Attack) -> None:
    attack.mlflow("mlflow.pyfunc.model", python_model="../beside.pkl")
    (attack.folder.parent / "beside.pkl").write_bytes(pickle.dumps(attack))


def a_loader_of_its_own(attack: Attack) -> None:
    attack.mlflow("evil_loader", code="code")
    (attack.folder / "code").mkdir()
    (attack.folder / "code/evil_loader.py").write_text(attack.code)


def a_pickle_of_mlflows(attack: Attack) -> None:
    flavor = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}
    attack.mlflow("mlflow.sklearn", {"sklearn": flavor}, model_path="model.pkl")
    (attack.folder / "model.pkl").write_bytes(pickle.dumps(attack))


def a_flavor_whose_wrapper_unpickles(attack: Attack) -> None:
    attack.mlflow("mlflow.statsmodels", {"statsmodels": {"data": "model.pkl"}}, data="model.pkl")
    (attack.folder / "model.pkl").write_bytes(pickle.dumps(attack))


def a_flavor_that_is_configured(attack: Attack) -> None:
    # With a configuration, MLflow loads it, and what `MLmodel` says of its class counts.
    attack.mlflow("mlflow.sklearn", {"sklearn": {"serialization_format": "skops"}}, config={"a": 1})
    (attack.folder / "model.pkl").write_bytes(pickle.dumps(attack))


def code_beside_a_safe_flavor(attack: Attack) -> None:
    flavor = {"data": "model.txt", "model_class": "lightgbm.basic.Booster", "code": "code"}
    attack.mlflow("mlflow.lightgbm", {"lightgbm": flavor}, data="model.txt")
    (attack.folder / "code").mkdir()
    (attack.folder / "code/lightgbm.py").write_text(attack.code)


def an_interpreter(attack: Attack) -> None:
    attack.settings("sklearn", parameters={"environment_path": "./env"})
    joblib.dump(LinearRegression(), attack.folder / "model.joblib")
    (attack.folder / "env/bin").mkdir(parents=True)
    python = attack.folder / "env/bin/python"
    python.write_text(f"#!/bin/sh\nmkdir -p {attack.mark}\n")
    python.chmod(0o755)


def inside_the_server(attack: Attack) -> None:
    attack.settings("sklearn", parallel_workers=0)
    joblib.dump(attack, attack.folder / "model.joblib")


RUNS = [
    *(a_joblib_file, a_joblib_file_with_the_name_of_a_booster, a_compressed_pickle),
    *(a_pickle_of_lightgbm, a_pickle_of_any_object, a_class, a_file_with_a_class),
    *(a_python_model, a_python_model_in_another_folder, a_loader_of_its_own),
    *(a_pickle_of_mlflows, an_interpreter, inside_the_server),
]


def a_pickle_with_the_name_of_a_skops_file(attack: Attack) -> None:
    pickled(attack, "sklearn", "model.skops")


def a_pickle_with_the_name_of_a_booster(attack: Attack) -> None:
    pickled(attack, "lightgbm", "model.txt")


def a_pickle_for_xgboost(attack: Attack) -> None:
    pickled(attack, "xgboost", "model.json")


def a_pickle_for_onnx(attack: Attack) -> None:
    pickled(attack, "onnx", "model.onnx")


def a_skops_file_that_trusts_itself(attack: Attack) -> None:
    attack.settings("sklearn", parameters={"extra": {"skops_trusted_types": ["os.mkdir"]}})
    skops.io.dump(LinearRegression(), attack.folder / "model.skops")


def a_library_for_onnx(attack: Attack) -> None:
    options = [{"trt_extra_plugin_lib_paths": "./evil.so"}]
    attack.settings("onnx", parameters={"extra": {"provider_options": options}})
    (attack.folder / "model.onnx").write_bytes(b"")


def a_library_for_onnx_in_a_flavor(attack: Attack) -> None:
    options = {"extra_session_config": {"session.custom_ops": "./evil.so"}}
    flavor = {"data": "model.onnx", "onnx_session_options": options}
    attack.mlflow("mlflow.onnx", {"onnx": flavor}, data="model.onnx")
    (attack.folder / "model.onnx").write_bytes(b"")


def code_of_transformers(attack: Attack) -> None:
    attack.settings("huggingface", parameters={"extra": {"trust_remote_code": True, "task": "ner"}})
    (attack.folder / "config.json").write_text("{}")


def a_model_of_the_hub(attack: Attack) -> None:
    extra = {"pretrained_model": "somebody/model", "task": "ner"}
    attack.settings("huggingface", parameters={"extra": extra})


def other_weights_than_safetensors(attack: Attack) -> None:
    attack.settings("huggingface", parameters={"extra": {"task": "ner"}})
    (attack.folder / "config.json").write_text("{}")
    (attack.folder / "pytorch_model.bin").write_bytes(pickle.dumps(attack))


def a_module_of_pytorch(attack: Attack) -> None:
    pickled(attack, "pytorch", "model.pt")


def a_keras_file(attack: Attack) -> None:
    pickled(attack, "keras", "model.keras")


REFUSED = [
    *RUNS,
    *(a_pickle_with_the_name_of_a_skops_file, a_pickle_with_the_name_of_a_booster),
    *(a_pickle_for_xgboost, a_pickle_for_onnx, a_skops_file_that_trusts_itself),
    *(a_library_for_onnx, a_library_for_onnx_in_a_flavor, code_of_transformers),
    *(a_model_of_the_hub,),
    *(other_weights_than_safetensors, a_module_of_pytorch, a_keras_file),
    *(a_flavor_whose_wrapper_unpickles, a_flavor_that_is_configured, code_beside_a_safe_flavor),
]


class Attacked:
    """A server of these models; `marks` has a folder for each whose code ran."""

    def __init__(self, server: Server, root: Path, marks: Path) -> None:
        self.server = server
        self.root = root
        self.marks = marks

    def states(self) -> dict[str, dict[str, str]]:
        rows = ask(self.server.http, "POST", "/v2/repository/index").json
        return {row["name"]: row for row in rows}


def attacked(
    folder: Path, attacks: list[Callable[[Attack], None]], *flags: str
) -> Iterator[Attacked]:
    root, marks = folder / "models", folder / "marks"
    root.mkdir()
    marks.mkdir()
    for attack in attacks:
        attack(Attack(root, marks, attack.__name__))
    good = root / "good"
    good.mkdir()
    (good / "model-settings.json").write_text('{"implementation": "sklearn"}')
    skops.io.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), good / "model.skops")
    # Modules of these names would be imported in their place, if anything looked here.
    for module in ("skops", "sklearn", "scipy", "lightgbm", "sitecustomize"):
        (good / f"{module}.py").write_text(f"import os\nos.mkdir({str(marks / 'module')!r})\n")
    with serving(root, "--env-manager", "local", *flags) as server:
        yield Attacked(server, root, marks)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    yield from attacked(tmp_path_factory.mktemp("guarded"), REFUSED, "--trust", "formats")


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    yield from attacked(tmp_path_factory.mktemp("unguarded"), RUNS)


@pytest.mark.parametrize("attack", RUNS, ids=lambda attack: attack.__name__)
def test_the_attack_is_real(attack: Callable[[Attack], None], unguarded: Attacked) -> None:
    assert (unguarded.marks / attack.__name__).is_dir()


@pytest.mark.parametrize("attack", REFUSED, ids=lambda attack: attack.__name__)
def test_the_code_of_a_model_does_not_run(
    attack: Callable[[Attack], None], guarded: Attacked
) -> None:
    entry = guarded.states()[attack.__name__]

    # What cannot be read for another reason is tried again.
    assert entry["state"] in ("UNAVAILABLE", "LOADING")
    assert entry["reason"]
    assert not (guarded.marks / attack.__name__).exists()


def test_a_model_that_may_run_code_is_refused_with_the_flag(guarded: Attacked) -> None:
    reason = guarded.states()["a_joblib_file"]["reason"]

    assert "is a pickle ('model.joblib'); only formats without code are opened" in reason
    assert "--trust formats" in reason


def test_a_model_without_code_is_served_without_the_modules_beside_it(guarded: Attacked) -> None:
    one = {"name": "input-0", "shape": [1, 1], "datatype": "FP64", "data": [3.0]}
    answer = ask(guarded.server.http, "POST", "/v2/models/good/infer", {"inputs": [one]})

    assert answer.status == 200
    assert answer.json["outputs"][0]["data"] == pytest.approx([3.0])
    assert not (guarded.marks / "module").exists()


def test_a_load_that_a_client_asks_for_is_refused_alike(guarded: Attacked) -> None:
    path = "/v2/repository/models/a_joblib_file/load"
    answer = ask(guarded.server.http, "POST", path)

    assert (answer.status, answer.json["code"]) == (422, "invalid_model")
    assert not (guarded.marks / "a_joblib_file").exists()


def test_modules_in_the_working_directory_are_not_those_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "skops.py").write_text("import os\nos.mkdir('mark')\n")
    (tmp_path / "model-settings.json").write_text('{"name": "m", "implementation": "sklearn"}')
    skops.io.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), tmp_path / "model.skops")
    monkeypatch.chdir(tmp_path)
    with serving(".", "--trust", "formats") as server:
        assert ask(server.http, "GET", "/v2/models/m/ready").status == 200

    assert not (tmp_path / "mark").exists()


def test_a_service_is_refused_before_it_is_imported(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "service.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    write_model(tmp_path, name="m")
    with pytest.raises(AssertionError), serving(tmp_path / "service.py", "--trust", "formats"):
        pass

    assert not mark.exists()


def test_beyond_this_machine_the_models_that_are_code_are_named(tmp_path: Path) -> None:
    for name in ("pickled", "safe"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model-settings.json").write_text('{"implementation": "sklearn"}')
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    joblib.dump(model, tmp_path / "pickled/model.joblib")
    skops.io.dump(model, tmp_path / "safe/model.skops")
    write_model(tmp_path, name="custom")
    with serving(tmp_path, "--host", "0.0.0.0") as server:
        log = server.log()

    assert "these models are code or pickles: 'custom', 'pickled'; --trust" in log


FRONT = r"""
import os, sys
front = os.getpid()
def watch(event, arguments):
    if event == "pickle.find_class" and os.getpid() == front:
        os.write(2, b"UNPICKLED " + repr(arguments).encode() + b"\n")
sys.addaudithook(watch)
from headrace.cli.main import main
status = main()
readers = {"pickle", "joblib", "cloudpickle", "sklearn", "skops"} & set(sys.modules)
os.write(2, b"READERS " + repr(sorted(readers)).encode() + b"\n")
sys.exit(status)
"""


def test_the_server_itself_unpickles_nothing_whatever_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    for name, settings in [("joblib", "sklearn"), ("pickle", "pickle")]:
        folder = tmp_path / name
        folder.mkdir()
        settings = json.dumps({"implementation": settings})
        (folder / "model-settings.json").write_text(settings)
        joblib.dump(model, folder / "model.joblib")
    write_model(tmp_path, name="custom")
    monkeypatch.setattr("support.serving.MAIN", ["-c", FRONT])
    one = {"name": "input-0", "shape": [1, 1], "datatype": "FP64", "data": [3.0]}
    with serving(tmp_path) as server:
        for name in ("joblib", "pickle"):
            path = f"/v2/models/{name}/infer"
            assert ask(server.http, "POST", path, {"inputs": [one]}).status == 200
            assert ask(server.http, "POST", f"/v2/repository/models/{name}/load").status == 200
        for path in ("/metrics", "/openapi.json", "/api/status"):
            ask(server.http, "GET", path)
        server.signal()
        assert server.wait(60) == 0
        log = server.log()

    assert "UNPICKLED" not in log
    assert "READERS" in log

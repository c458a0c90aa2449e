"""A MODEL argument that is the tag of a stored model, and what else it may be."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from headrace import models
from headrace.errors import ConfigurationError, InvalidModel, LoadFailed
from headrace.models import StoredModel
from headrace.sources import artifacts
from headrace.sources.discovery import open_source
from headrace.sources.folder_source import FolderSource
from headrace.sources.store_source import StoreSource
from headrace.sources.uri_source import UriSource
from headrace.testing import TestClient
from support.stored import store


@pytest.fixture(autouse=True)
def framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A home folder of its own, and a framework module that serves `model.joblib`."""
    module = types.ModuleType("headrace.stand_in")

    def settings_of(stored: StoredModel) -> dict[str, Any]:
        return {"implementation": "sklearn", "uri": stored.path_of("model.joblib")}

    module.settings_of = settings_of  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "headrace.stand_in", module)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return module


def saved(tag: str, slope: float) -> StoredModel:
    x = np.array([[0.0], [1.0]])
    with models.create(tag, module="headrace.stand_in") as model:
        joblib.dump(LinearRegression().fit(x, x[:, 0] * slope), model.path_of("model.joblib"))
    return model


ASK = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [2.0]}]}


@pytest.mark.parametrize("model", ["line", "line:latest", "line:v2", "Line"])
def test_a_stored_model_is_served_under_its_name_and_version(model: str) -> None:
    saved("line:v1", 3.0), saved("line:v2", 5.0)

    with TestClient(model) as client:
        answer = client.post("/v2/models/line/infer", json=ASK).json()
    assert answer["model_version"] == "v2"
    assert answer["outputs"][0]["data"] == pytest.approx([10.0])


def test_another_name_and_settings_of_the_environment_apply() -> None:
    saved("line:v1", 3.0)
    environ = {"HEADRACE_MODEL_MAX_BATCH_SIZE": "7", "HEADRACE_MODEL_IMPLEMENTATION": "onnx"}

    [found] = open_source("line", "other", environ).found()

    settings = found.settings
    assert (settings.name, settings.version, settings.implementation) == ("other", "v1", "sklearn")
    assert settings.max_batch_size == 7
    assert found.origins["uri"] == "store line:v1"
    assert found.origins["max_batch_size"] == "HEADRACE_MODEL_MAX_BATCH_SIZE"


def test_loading_again_finds_the_latest_version() -> None:
    saved("line:v1", 3.0)
    source = open_source("line")
    assert source.find("line")[0].version == "v1"

    saved("line:v2", 5.0)

    assert source.find("line")[0].version == "v2"
    assert open_source("line:v1").find("line")[0].version == "v1"


def test_a_path_comes_before_a_tag_and_a_tag_before_a_uri(tmp_path: Path) -> None:
    for name in ("line", "models", "s3", "runs", "file"):
        store(f"{name}:v1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "odd:name").mkdir()

    kinds = {
        model: type(open_source(model))
        for model in (
            "line", "line:v1", "line:v9", "folder", "odd:name", "nothing", "other:v1",
            "models:/line@champion", "s3://bucket/x", "runs:/1/m", "models:v1", "file:v1",
            "plugin-scheme://x", "line/", "./line", "line:v1/x", str(tmp_path),
        )
    }  # fmt: skip
    tags = {model for model, kind in kinds.items() if kind is StoreSource}
    uris = {model for model, kind in kinds.items() if kind is UriSource}

    assert tags == {"line", "line:v1", "line:v9", "other:v1"}
    assert uris == {
        "models:/line@champion", "s3://bucket/x", "runs:/1/m", "models:v1", "file:v1",
        "plugin-scheme://x", "line:v1/x",
    }  # fmt: skip
    (tmp_path / "line").mkdir()
    assert type(open_source("line")) is FolderSource
    assert type(open_source("line:v1")) is StoreSource


def test_a_version_that_is_not_there_is_reported_with_those_that_are() -> None:
    store("line:v1")

    with pytest.raises(ConfigurationError, match="MODEL 'line:v9': .*its versions are 'v1'"):
        open_source("line:v9").found()
    with pytest.raises(
        ConfigurationError, match="the tag of a stored model or a bundle, or a serv"
    ):
        open_source("other").found()
    with pytest.raises(ConfigurationError, match="MODEL 'lnie:v1': .*there is none of that name"):
        open_source("lnie:v1").found()
    with pytest.raises(ConfigurationError, match="there is no bundle of that name either"):
        open_source("lnie:v1").found()


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("antigravity", "only modules of headrace"),
        ("os.path", "only modules of headrace"),
        ("", "no framework module saved it"),
        ("headrace.cli.main", "only modules of headrace"),
        ("headrace.errors", "does not say how its models are served"),
        ("headrace.no_such", "does not exist here"),
        ("bentoml.no_such", "module 'headrace.no_such'"),
    ],
)
def test_no_module_but_ours_is_imported_into_the_server(module: str, reason: str) -> None:
    store("line:v1", module=module)

    with pytest.raises(ConfigurationError, match=reason):
        open_source("line").found()
    assert "antigravity" not in sys.modules


def test_a_model_that_was_changed_is_not_served() -> None:
    model = saved("line:v1", 3.0)
    with Path(model.path_of("model.joblib")).open("ab") as file:
        file.write(b"x")

    with pytest.raises(LoadFailed), TestClient("line"):
        pass
    with pytest.raises(InvalidModel, match="'model.joblib' has"):
        model.load_model()


async def fetched(uri: str) -> str:
    return (await artifacts.fetch(uri, 60, print))[0]


def test_the_digests_are_checked_for_whatever_is_in_the_store(tmp_path: Path) -> None:
    import asyncio

    model = saved("line:v1", 3.0)
    copy = tmp_path / "copy"
    shutil.copytree(model.path, copy)
    for folder in (Path(model.path), copy):
        (folder / "model.joblib").write_bytes(b"x")

    assert asyncio.run(fetched(str(copy))) == str(copy)
    for path in (model.path, model.path_of("model.joblib")):
        with pytest.raises(InvalidModel, match="model 'line:v1': file 'model.joblib'"):
            asyncio.run(fetched(path))


def test_a_model_is_loaded_by_its_framework_module(framework: types.ModuleType) -> None:
    def load_model(stored: StoredModel, scale: int = 1) -> Any:
        return joblib.load(stored.path_of("model.joblib")).coef_ * scale

    framework.load_model = load_model  # type: ignore[attr-defined]
    saved("line:v1", 3.0)

    assert models.get("line").load_model(scale=2) == pytest.approx([6.0])

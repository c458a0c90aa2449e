"""Which models a folder, a file, a URI and the environment describe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import ConfigurationError, LoadFailed
from headrace.sources.discovery import open_source
from headrace.sources.model_file import MLFLOW_RUNTIME, FoundModel


def write(folder: Path, **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings.setdefault("implementation", "sklearn")
    (folder / "model-settings.json").write_text(json.dumps(settings))
    return folder


def only(model: Path | str, name: str | None = None, **environ: str) -> FoundModel:
    [found] = open_source(str(model), name, environ).found()
    return found


def test_every_field_of_mlserver_is_accepted(tmp_path):
    write(
        tmp_path / "m",
        name="iris",
        platform="sklearn",
        versions=["1"],
        inputs=[{"name": "x", "datatype": "FP64", "shape": [-1, 4]}],
        outputs=[],
        parallel_workers=0,
        warm_workers=True,
        max_batch_size=8,
        max_batch_time=0.5,
        cache_enabled=True,
        parameters={
            "uri": "./model.joblib",
            "version": "v3",
            "environment_path": "env",
            "environment_tarball": "env.tgz",
            "inference_pool_gid": "a",
            "autogenerate_inference_pool_gid": True,
            "format": "parquet",
            "content_type": "np",
            "extra": {"a": 1},
            "another": 2,
        },
    )

    found = only(tmp_path)

    settings = found.settings
    assert (settings.name, settings.version, settings.platform) == ("iris", "v3", "sklearn")
    assert settings.uri == str(tmp_path / "m" / "model.joblib")
    assert (settings.max_batch_size, settings.max_batch_time, settings.inline) == (8, 0.5, True)
    assert settings.content_type == "np"
    assert settings.extra == {"format": "parquet", "a": 1}
    assert settings.environment_path == str(tmp_path / "m" / "env")
    assert settings.environment_tarball == str(tmp_path / "m" / "env.tgz")
    assert settings.inference_pool_gid == "a"
    assert sorted(found.ignored) == ["cache_enabled", "versions", "warm_workers"]


def test_null_is_the_same_as_left_out(tmp_path):
    write(tmp_path / "m", name=None, max_batch_size=None, parameters=None)

    settings = only(tmp_path).settings

    assert (settings.name, settings.uri) == ("m", str(tmp_path / "m"))


def test_a_folder_without_models_holds_none(tmp_path):
    assert open_source(str(tmp_path)).found() == []


def test_a_name_for_no_model_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"neither an MLflow model"):
        open_source(str(tmp_path), "wine").found()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="does not exist"):
        open_source(str(tmp_path / "nowhere")).found()


@pytest.mark.parametrize("prefix", ["HEADRACE_MODEL_", "MLSERVER_MODEL_"])
def test_the_environment_describes_a_model_where_no_file_does(tmp_path, prefix):
    environ = {
        "NAME": "iris",
        "URI": str(tmp_path),
        "IMPLEMENTATION": "mlserver_sklearn.SKLearnModel",
        "VERSION": "7",
        "CONTENT_TYPE": "np",
        "EXTRA": '{"a": 1}',
        "MAX_BATCH_SIZE": "16",
        "PARALLEL_WORKERS": "1",
    }

    found = only(tmp_path, **{prefix + key: value for key, value in environ.items()})

    settings = found.settings
    assert (settings.name, settings.version, settings.uri) == ("iris", "7", str(tmp_path))
    assert settings.implementation == "mlserver_sklearn.SKLearnModel"
    assert (settings.content_type, settings.extra) == ("np", {"a": 1})
    assert (settings.max_batch_size, settings.inline) == (16, False)
    assert found.origins["max_batch_size"] == prefix + "MAX_BATCH_SIZE"


def test_our_variable_comes_before_that_of_mlserver(tmp_path):
    found = only(write(tmp_path / "m"), MLSERVER_MODEL_VERSION="1", HEADRACE_MODEL_VERSION="2")

    assert found.settings.version == "2"


def test_the_environment_fills_in_only_what_the_file_leaves_out(tmp_path):
    folder = write(tmp_path / "m", max_batch_size=4)

    found = only(folder, MLSERVER_MODEL_MAX_BATCH_SIZE="9", MLSERVER_MODEL_PLATFORM="mine")

    assert (found.settings.max_batch_size, found.settings.platform) == (4, "mine")
    assert found.origins["max_batch_size"] == str(folder / "model-settings.json")
    assert found.origins["platform"] == "MLSERVER_MODEL_PLATFORM"
    assert found.origins["instances"] == "default"


def test_the_environment_does_not_make_twins_of_several_models(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")

    found = open_source(str(tmp_path), None, {"MLSERVER_MODEL_NAME": "m"}).found()

    assert [model.settings.name for model in found] == ["a", "b"]


def test_the_environment_names_an_mlflow_folder(tmp_path):
    (tmp_path / "MLmodel").touch()

    found = only(tmp_path, MLSERVER_MODEL_NAME="wine", MLSERVER_MODEL_VERSION="2")

    settings = found.settings
    assert (settings.name, settings.version) == ("wine", "2")
    assert settings.implementation == MLFLOW_RUNTIME


def test_the_name_of_the_command_line_comes_first(tmp_path):
    (tmp_path / "MLmodel").touch()

    assert only(tmp_path, "flag", MLSERVER_MODEL_NAME="wine").settings.name == "flag"
    assert only(write(tmp_path / "m", name="file"), "flag").origins["name"] == "--name"


def test_a_uri_without_a_runtime_says_which_variable_is_missing(tmp_path):
    with pytest.raises(ConfigurationError, match="HEADRACE_MODEL_IMPLEMENTATION"):
        only(tmp_path, MLSERVER_MODEL_URI=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"max_batch_size": "many"},
            "model-settings.json: max_batch_size: expected integer, at least 0, got 'many'",
        ),
        ({"instances": 0}, "instances: expected integer, at least 1, got 0"),
        ({"infer_timeout": -1}, "expected number, above 0, got -1"),
        ({"name": "../m"}, "not a model name"),
        ({"parameters": {"version": "a/b"}}, "not a version"),
        ({"parameters": 3}, "parameters: expected an object"),
        ({"implementation": None}, "names no implementation"),
    ],
    ids=[
        "a text for a number",
        "no instance",
        "a negative time",
        "a path for a name",
        "a path for a version",
        "a number",
        "nothing",
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path, settings, message):
    write(tmp_path / "m", **settings)

    with pytest.raises(ConfigurationError) as caught:
        open_source(str(tmp_path)).found()

    assert message in caught.value.message


def test_a_folder_named_like_a_key_does_not_hide_the_key(tmp_path):
    write(tmp_path / "INSTANCES", instances=0)

    with pytest.raises(ConfigurationError, match="json: instances: expected integer"):
        open_source(str(tmp_path)).found()


def test_a_file_that_is_not_utf8_is_refused_with_its_place_and_hides_no_other(tmp_path):
    write(tmp_path / "good", name="good")
    write(tmp_path / "m").joinpath("model-settings.json").write_bytes(b'{"name": "\xff"}')
    source = open_source(str(tmp_path))

    with pytest.raises(ConfigurationError, match="model-settings.json: not valid UTF-8 at byte 10"):
        source.found()
    assert [model.name for model in source.find("good")] == ["good"]


def test_extra_that_is_not_json_names_the_variable(tmp_path):
    with pytest.raises(ConfigurationError, match="MLSERVER_MODEL_EXTRA: expected JSON"):
        only(write(tmp_path / "m"), MLSERVER_MODEL_EXTRA="{")


def test_two_folders_of_one_version_are_refused(tmp_path):
    write(tmp_path / "a", name="m", parameters={"version": "1"})
    write(tmp_path / "b", name="m", parameters={"version": "1"})

    with pytest.raises(ConfigurationError, match="is also in"):
        open_source(str(tmp_path)).found()


def test_all_versions_of_a_model_are_found_and_no_other(tmp_path):
    write(tmp_path / "a", name="m", parameters={"version": "1"})
    write(tmp_path / "b", name="m", parameters={"version": 2})
    write(tmp_path / "c", name="n")

    found = open_source(str(tmp_path)).find("m")

    assert [settings.version for settings in found] == ["1", "2"]


def test_a_model_added_later_is_found(tmp_path):
    source = open_source(str(tmp_path))
    assert source.find("m") == []
    write(tmp_path / "m")

    assert [settings.name for settings in source.find("m")] == ["m"]


def test_a_broken_neighbour_does_not_hide_a_model(tmp_path):
    write(tmp_path / "m")
    write(tmp_path / "n", max_batch_size="many")

    assert [settings.name for settings in open_source(str(tmp_path)).find("m")] == ["m"]


def test_a_broken_model_is_not_found_and_its_reason_names_no_path(tmp_path):
    write(tmp_path / "m", max_batch_size="many")

    with pytest.raises(LoadFailed) as caught:
        open_source(str(tmp_path)).find("m")

    assert str(tmp_path) not in caught.value.message


def test_a_model_path_that_the_system_refuses_is_refused_in_words():
    with pytest.raises(ConfigurationError, match=r"MODEL 'm+\.\.\.': File name too long"):
        open_source("m" * 5000).found()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(tmp_path):
    tmp_path.chmod(0o300)
    try:
        with pytest.raises(ConfigurationError, match="Permission denied"):
            open_source(str(tmp_path)).found()
    finally:
        tmp_path.chmod(0o700)


def test_a_path_that_no_file_can_have_is_refused_with_its_folder(tmp_path):
    write(tmp_path, parameters={"uri": "a\0b"})

    with pytest.raises(ConfigurationError, match=f"{tmp_path}: a path of the model: "):
        open_source(str(tmp_path)).found()


def described(folder: Path) -> dict[str, str]:
    """What the models of a folder are called, and what is wrong with each."""
    return {each.name: each.fault for each in open_source(str(folder)).settings()}


def test_a_model_whose_description_is_wrong_fails_alone(tmp_path):
    write(tmp_path / "good")
    write(tmp_path / "bad name!", name="bad name!")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "model-settings.json").write_text("{}")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model-settings.json").write_text('{"name": ')

    found = described(tmp_path)

    assert found.keys() == {"good", "bad-name-", "none", "cut"}
    assert found["good"] == ""
    assert "'bad name!' is not a model name" in found["bad-name-"]
    assert found["none"].startswith("none/model-settings.json: names no implementation")
    assert found["cut"].startswith("cut/model-settings.json: not valid JSON: it ends too early")


def test_models_of_one_name_fail_together_and_the_others_are_served(tmp_path):
    write(tmp_path / "a", name="m")
    write(tmp_path / "b", name="m")
    write(tmp_path / "c")

    found = described(tmp_path)

    assert found == {"m": "model 'm' without a version is in several folders: 'a', 'b'", "c": ""}


def test_a_wrong_file_does_not_take_the_place_of_a_model_of_that_name(tmp_path):
    write(tmp_path / "a", name="b")
    write(tmp_path / "b").joinpath("model-settings.json").write_text("{")

    assert described(tmp_path) == {"b": ""}


def test_a_wrong_variable_is_refused_for_all(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")

    with pytest.raises(ConfigurationError, match="HEADRACE_MODEL_MAX_BATCH_SIZE"):
        open_source(str(tmp_path), None, {"HEADRACE_MODEL_MAX_BATCH_SIZE": "x"}).settings()


def test_a_folder_of_mlflow_models_names_the_newest(tmp_path):
    for number, name in enumerate(("m-1", "m-2")):
        folder = tmp_path / "mlruns" / "0" / "models" / name / "artifacts"
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_text("")
        os.utime(folder / "MLmodel", (number, number))

    with pytest.raises(ConfigurationError) as caught:
        open_source(str(tmp_path / "mlruns")).settings()

    assert "there is no model-settings.json in it or below it" in caught.value.message
    assert "Below it are 2 MLflow models" in caught.value.message
    assert caught.value.message.endswith(f"headrace serve {tmp_path}/mlruns/0/models/m-2/artifacts")


def test_an_empty_folder_says_what_was_looked_for_and_what_is_there(tmp_path):
    assert open_source(str(tmp_path)).nothing().endswith("and no MLmodel in it; it is empty")
    (tmp_path / "model.pkl").write_bytes(b"")

    nothing = open_source(str(tmp_path)).nothing()

    assert "there is no model-settings.json in it or below it, and no MLmodel in it" in nothing
    assert nothing.endswith("it holds 'model.pkl'")


def test_a_file_of_a_model_is_told_the_settings_that_serve_it(tmp_path: Path) -> None:
    (tmp_path / "wine.joblib").write_bytes(b"x")

    with pytest.raises(ConfigurationError) as caught:
        open_source(str(tmp_path / "wine.joblib")).found()

    assert '"name": "wine", "implementation": "...", "parameters": {"uri": "./wine.joblib"}' in (
        caught.value.message
    )


def test_a_settings_file_may_begin_with_a_byte_order_mark(tmp_path):
    write(tmp_path / "m", instances=2)
    file = tmp_path / "m/model-settings.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    (model,) = open_source(str(tmp_path)).found()

    assert model.settings.instances == 2

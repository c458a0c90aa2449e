"""Words that nobody knows: ours are refused, MLServer's are told, and both name the nearest one."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from headrace.cli import conf
from headrace.configuration import resolve
from headrace.errors import ConfigurationError, nearest
from headrace.sources.discovery import open_source


def write(folder: Path, **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings.setdefault("implementation", "sklearn")
    (folder / "model-settings.json").write_text(json.dumps(settings))
    return folder


def warnings(folder: Path) -> list[str]:
    [model] = open_source(str(folder)).found()
    return model.warnings


def test_an_unknown_variable_of_ours_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({}, {"HEADRACE_HTP_PORT": "1"}, None)

    assert caught.value.message == (
        "HEADRACE_HTP_PORT: there is no such variable; did you mean 'HEADRACE_HTTP_PORT'?"
    )


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("HEADRACE_MODEL_MAX_BATCH_SISE", "HEADRACE_MODEL_MAX_BATCH_SIZE"),
        ("HEADRACE_PLUGN", "HEADRACE_PLUGIN"),
        ("HEADRACE_HOEM", "HEADRACE_HOME"),
    ],
)
def test_variables_of_models_and_arguments_are_words_of_ours_too(name: str, known: str) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{known}'"):
        resolve({}, {name: "1"}, None)


def test_an_unknown_variable_of_mlserver_is_told_with_the_nearest() -> None:
    found = resolve({}, {"MLSERVER_PARALLEL_WORKER": "2", "MLSERVER_ZZZ": "/mnt"}, None)

    assert found.warnings == [
        "MLSERVER_PARALLEL_WORKER is unknown and has no effect; did you mean "
        "'MLSERVER_PARALLEL_WORKERS'?",
        "MLSERVER_ZZZ is unknown and has no effect",
    ]


def test_what_kubernetes_sets_for_services_is_no_setting() -> None:
    environ = {
        "HEADRACE_SERVICE_HOST": "10.0.0.7",
        "HEADRACE_SERVICE_PORT_HTTP": "8080",
        "HEADRACE_PORT": "tcp://10.0.0.7:8080",
        "HEADRACE_PORT_8080_TCP_ADDR": "10.0.0.7",
        "HEADRACE_METRICS_PORT": "tcp://10.0.0.8:8082",
        "MLSERVER_HTTP_PORT": "tcp://10.0.0.9:8080",
    }

    found = resolve({}, environ, None)

    assert (found.settings.metrics_port, found.settings.http_port) == (8082, 8080)
    assert found.warnings == []


def test_variables_that_are_read_elsewhere_are_known() -> None:
    environ = {
        "HEADRACE_HOME": "/here",
        "HEADRACE_API_KEY": "hr_1",
        "HEADRACE_INFER_URL": "there:8080",
        "HEADRACE_MODEL_ONNX_PROVIDERS": "CPUExecutionProvider",
        "MLSERVER_MODEL_HUGGINGFACE_TASK": "text-generation",
        "MLSERVER_MODEL_URI": "/mnt/model",
    }

    assert resolve({}, environ, None).warnings == []


def test_unknown_keys_of_settings_json_are_told_and_comments_are_not(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    given = {
        "paralel_workers": 4, "max_batch_size": 8, "blue": 1, "$schema": "", "_comment": "",
        "cors_settings": {"allow_orgins": ["*"]},
    }  # fmt: skip
    file.write_text(json.dumps(given))

    assert resolve({}, {}, tmp_path).warnings == [
        f"{file}: paralel_workers is unknown and has no effect; did you mean 'parallel_workers'?",
        f"{file}: max_batch_size has no effect here; it is a key of model-settings.json",
        f"{file}: blue is unknown and has no effect",
        f"{file}: cors_settings.allow_orgins is unknown and has no effect; did you mean "
        "'allow_origins'?",
    ]


def test_unknown_keys_of_model_settings_json_are_told_with_the_nearest(tmp_path: Path) -> None:
    write(
        tmp_path / "m", max_batch_sise=8, uri="a", versoin="1", _note="",
        parameters={"max_batch_size": 8, "contentType": "np", "own": 1},
    )  # fmt: skip

    assert warnings(tmp_path) == [
        "m/model-settings.json: max_batch_sise is unknown and has no effect; did you mean "
        "'max_batch_size'?",
        "m/model-settings.json: uri has no effect here; it belongs into parameters",
        "m/model-settings.json: versoin is unknown and has no effect; did you mean "
        "'parameters.version'?",
        "m/model-settings.json: parameters.max_batch_size has no effect here; it belongs to the "
        "top level",
        "m/model-settings.json: parameters.contentType is unknown and has no effect; did you mean "
        "'parameters.content_type'?",
        "m/model-settings.json: parameters.own is unknown and has no effect; a class reads options "
        "of its own from parameters.extra",
    ]


def test_a_warning_is_given_once_however_often_a_model_is_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_source(str(write(tmp_path / "m", max_batch_sise=8)))

    with caplog.at_level(logging.WARNING, "headrace.sources"):
        source.settings()
        source.find("m")

    assert [record.getMessage().partition(" is")[0] for record in caplog.records] == [
        "m/model-settings.json: max_batch_sise"
    ]


def test_an_unknown_key_of_an_environment_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "m", environment={"requirments": "r.txt"})

    with pytest.raises(ConfigurationError, match="'requirments'; did you mean 'requirements'"):
        open_source(str(tmp_path)).found()


def test_an_unknown_key_of_the_conf_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "conf.yaml").write_text("model_urI: here")

    with pytest.raises(ConfigurationError, match="'model_urI'; did you mean 'model_uri'"):
        conf.read(str(tmp_path / "conf.yaml"))


def test_a_word_is_near_in_any_case_and_far_words_are_not() -> None:
    known = ("inputs", "id", "parameters", "outputs")

    assert nearest("Inputs", known) == "inputs"
    assert nearest("parms", known) == "parameters"
    assert nearest("model_name", known) == ""


@pytest.mark.parametrize("part", ["server", "model", "parameters"])
def test_of_many_unknown_keys_the_first_are_named_and_the_rest_counted(
    part: str, tmp_path: Path
) -> None:
    keys = {f"nonsense{number}": 1 for number in range(30_000)}
    file = tmp_path / ("settings.json" if part == "server" else "model-settings.json")
    settings = {"parameters": keys} if part == "parameters" else keys
    file.write_text(
        json.dumps({**settings, **({} if part == "server" else {"implementation": "a:B"})})
    )

    said = resolve({}, {}, tmp_path).warnings if part == "server" else warnings(tmp_path)

    assert "nonsense0" in said[0]
    assert "29,980 more" in said[-1]
    assert len(said) == 21


def test_a_long_key_is_shortened(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"n" * 100_000: 1}))

    [said] = resolve({}, {}, tmp_path).warnings

    assert len(said) < 1000


def test_a_key_that_is_given_twice_is_told(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"http_port": 1, "http_port": 2}')
    (tmp_path / "model-settings.json").write_text(
        '{"implementation": "a:B", "parameters": {"uri": "x", "uri": "y"}}'
    )

    [of_server] = resolve({}, {}, tmp_path).warnings
    [of_model] = warnings(tmp_path)

    assert "'http_port' is given more than once" in of_server
    assert "'uri' is given more than once" in of_model

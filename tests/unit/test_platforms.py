"""Which platform is found, and which settings and models it gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace import platforms
from headrace.configuration import model_argument, resolve
from headrace.errors import ConfigurationError
from headrace.platform_table import PLATFORMS
from headrace.platforms import find
from headrace.settings import ServerSettings
from headrace.sources.server_keys import ROOT

IN_IMAGE = {"HEADRACE_CONTAINER": "1"}
VERTEX = {"AIP_HTTP_PORT": "8085", "AIP_STORAGE_URI": "gs://bucket/wine"}


def auto(root: Path, **environ: str) -> platforms.Found:
    return find("auto", "", {**IN_IMAGE, **environ}, root)


@pytest.mark.parametrize("platform", PLATFORMS, ids=[platform.name for platform in PLATFORMS])
def test_each_sign_and_each_mount_shows_its_platform_and_no_other(platform, tmp_path: Path):
    assert auto(tmp_path).name == "none"
    for sign in platform.signs:
        assert (auto(tmp_path, **{sign: "1"}).name, auto(tmp_path).origin) == (platform.name, "")
    if platform.mount:
        (tmp_path / platform.mount[1:]).mkdir(parents=True)
        found = auto(tmp_path)
        assert (found.name, found.origin) == (platform.name, platform.mount)


@pytest.mark.parametrize("platform", PLATFORMS, ids=[platform.name for platform in PLATFORMS])
def test_what_a_platform_sets_are_settings(platform):
    names = {*platform.variables.values(), *platform.expects, *platform.suits}
    assert names <= ServerSettings.__dataclass_fields__.keys()


def test_outside_of_an_image_only_the_flag_finds_a_platform():
    assert resolve({}, VERTEX, None).settings == ServerSettings()
    found = resolve({"platform": "vertex"}, VERTEX, None)
    assert (found.settings.http_port, found.origins["http_port"]) == (8085, "AIP_HTTP_PORT")
    assert (found.settings.platform, found.origins["platform"]) == ("vertex", "--platform")


def test_none_finds_nothing_in_an_image():
    environ = {**IN_IMAGE, **VERTEX, "HEADRACE_PLATFORM": "none"}
    assert resolve({}, environ, None).settings.http_port == 8080


def test_an_unknown_platform_is_refused_with_those_that_exist():
    with pytest.raises(ConfigurationError, match="--platform: expected one of auto.*'vertx'"):
        resolve({"platform": "vertx"}, {}, None)


def test_flags_and_our_variables_come_before_a_platform_and_files_after_it(tmp_path: Path):
    (tmp_path / "settings.json").write_text('{"http_port": 1, "drain_timeout": 7}')

    environ = {**IN_IMAGE, **VERTEX}
    assert resolve({}, environ, tmp_path).settings.http_port == 8085
    assert resolve({}, {**environ, "PORT": "2"}, tmp_path).settings.http_port == 8085
    assert resolve({}, {**environ, "MLSERVER_HTTP_PORT": "3"}, None).settings.http_port == 3
    assert resolve({"http_port": 4}, environ, tmp_path).settings.http_port == 4


def test_a_file_may_change_what_only_suits_a_platform(tmp_path: Path):
    assert resolve({"platform": "kserve"}, {}, tmp_path).settings.drain_timeout == 20
    (tmp_path / "settings.json").write_text('{"drain_timeout": 7}')
    assert resolve({"platform": "kserve"}, {}, tmp_path).settings.drain_timeout == 7


def test_a_port_that_is_none_is_refused_under_the_name_of_its_variable():
    with pytest.raises(ConfigurationError, match="AIP_HTTP_PORT: expected"):
        resolve({}, {**IN_IMAGE, "AIP_HTTP_PORT": "http"}, None)


@pytest.mark.parametrize("route", ["predict", "/{name}", "/a?b", "/a#b"])
def test_a_route_that_is_no_path_is_refused(route: str):
    with pytest.raises(ConfigurationError, match="AIP_PREDICT_ROUTE: expected a path"):
        resolve({"platform": "vertex"}, {"AIP_PREDICT_ROUTE": route}, None)


def test_the_models_of_a_platform_come_after_the_argument_and_the_variable(tmp_path: Path):
    found = find("vertex", "--platform", VERTEX)

    assert model_argument("here", {}, found) == "here"
    root = {"MLSERVER_MODEL_REPOSITORY_ROOT": "there"}
    assert model_argument(None, root, found) == "there"
    assert model_argument(None, {}, found) == "gs://bucket/wine"


def test_an_empty_mount_leaves_the_models_of_the_image(tmp_path: Path):
    mount = tmp_path / "opt/ml/model"
    mount.mkdir(parents=True)
    (mount / "lost+found").mkdir()
    assert auto(tmp_path).model is None

    (mount / "model.joblib").touch()
    assert auto(tmp_path).model == str(mount)


def test_a_model_that_is_alone_in_the_mount_is_served_itself(tmp_path: Path):
    mount = tmp_path / "mnt/models"
    (mount / "wine").mkdir(parents=True)
    (mount / "wine/MLmodel").touch()
    assert auto(tmp_path).model == str(mount / "wine")

    (mount / "other").mkdir()
    assert auto(tmp_path).model == str(mount)


def test_the_folder_of_seldons_models_may_appear_later(tmp_path: Path):
    (tmp_path / "mnt/agent").mkdir(parents=True)

    found = auto(tmp_path)

    assert (found.model, found.model_appears) == (str(tmp_path / "mnt/agent/models"), True)
    assert found.given[ROOT][1] == "/mnt/agent/models"


def test_variables_that_a_platform_reads_are_not_called_unknown():
    environ = {"MLSERVER_MODELS_DIR": "/mnt/agent/models"}
    assert "MLSERVER_MODELS_DIR" in resolve({}, environ, None).warnings[0]
    assert resolve({"platform": "seldon"}, environ, None).warnings == []


@pytest.mark.parametrize("route", ["/a/{x}", "/a?b", "/a#b", "/a%20b"])
def test_a_route_that_no_request_could_match_is_refused(route):
    with pytest.raises(ConfigurationError, match="AIP_PREDICT_ROUTE: expected a path without"):
        resolve({"platform": "vertex"}, {**VERTEX, "AIP_PREDICT_ROUTE": route}, None)

"""The server's settings: four sources, one order, and where each value came from."""

from __future__ import annotations

import json
import sys
from typing import get_type_hints

import pytest

from headrace.configuration import model_argument, resolve
from headrace.errors import ConfigurationError
from headrace.settings import CorsSettings, ServerSettings
from headrace.sources.server_keys import IGNORED, SWITCHES


def write(folder, **settings):
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


def read(flags, environ, folder) -> ServerSettings:
    return resolve(flags, environ, folder).settings


def test_flags_come_before_environment_before_files_before_defaults(tmp_path):
    write(tmp_path, http_port=1, infer_timeout=1, load_timeout=1)
    environ = {"HEADRACE_HTTP_PORT": "2", "MLSERVER_INFER_TIMEOUT": "2"}

    found = resolve({"http_port": 3}, environ, tmp_path)

    settings = found.settings
    assert (settings.http_port, settings.infer_timeout, settings.load_timeout) == (3, 2, 1)
    assert found.origins["http_port"] == "--http-port"
    assert found.origins["infer_timeout"] == "MLSERVER_INFER_TIMEOUT"
    assert found.origins["load_timeout"] == f"{tmp_path / 'settings.json'}: load_timeout"
    assert found.origins["host"] == "default"


def test_our_variable_comes_before_that_of_mlserver():
    environ = {"MLSERVER_HTTP_PORT": "1", "HEADRACE_HTTP_PORT": "2"}

    assert read({}, environ, None).http_port == 2


@pytest.mark.parametrize("switch", list(SWITCHES))
def test_a_switch_of_mlserver_sets_a_value_of_ours(tmp_path, switch):
    name, value = SWITCHES[switch]

    on = resolve({}, {}, write(tmp_path, **{switch: True}))
    off = resolve({}, {}, write(tmp_path, **{switch: False}))

    assert getattr(on.settings, name) == value
    assert switch in on.origins[name]
    assert getattr(off.settings, name) != value


def test_our_own_key_comes_before_a_switch(tmp_path):
    write(tmp_path, debug=True)

    assert read({"log_level": "error"}, {}, tmp_path).log_level == "error"


def test_keys_without_effect_are_accepted_and_told(tmp_path):
    write(tmp_path, kafka_enabled=True, something_else=1)

    found = resolve({}, {"MLSERVER_TRACING_SERVER": "here"}, tmp_path)

    assert set(found.ignored) == {
        f"{tmp_path / 'settings.json'}: kafka_enabled",
        "MLSERVER_TRACING_SERVER",
    }


def test_every_field_of_mlserver_is_accepted(tmp_path):
    known = {
        "debug": True,
        "parallel_workers": 2,
        "load_models_at_startup": False,
        "server_name": "mine",
        "server_version": "9",
        "extensions": ["a"],
        "host": "0.0.0.0",
        "http_port": 1,
        "root_path": "/ml",
        "cors_settings": {},
        "grpc_port": 2,
        "metrics_endpoint": None,
        "metrics_port": 3,
        "use_structured_logging": True,
        "model_repository_root": ".",
    }
    write(tmp_path, **known, **dict.fromkeys(IGNORED, "x"))

    settings = read({}, {}, tmp_path)

    assert (settings.parallel_workers, settings.load_models_at_startup) == (2, False)
    assert (settings.server_name, settings.server_version) == ("mine", "9")
    assert (settings.extensions, settings.root_path) == (("a",), "/ml")
    assert (settings.metrics_endpoint, settings.metrics_port) == (None, 3)
    assert (settings.log_level, settings.log_format) == ("debug", "json")


@pytest.mark.parametrize(
    "written", ['["a", "b"]', "a, b"], ids=["JSON as MLServer has it", "commas"]
)
def test_a_list_in_a_variable(written):
    assert read({}, {"MLSERVER_EXTENSIONS": written}, None).extensions == ("a", "b")


CORS = '{"allow_origins": ["http://a"], "max_age": 5, "unknown": 1}'


@pytest.mark.parametrize("variable", ["HEADRACE_CORS_SETTINGS", "MLSERVER_CORS_SETTINGS"])
def test_cors_settings_are_json_in_a_variable(variable):
    found = read({}, {variable: CORS}, None).cors_settings

    assert found == CorsSettings(allow_origins=("http://a",), max_age=5)


def test_cors_settings_are_an_object_in_a_file(tmp_path):
    write(tmp_path, cors_settings=json.loads(CORS))

    assert read({}, {}, tmp_path).cors_settings == CorsSettings(("http://a",), max_age=5)


@pytest.mark.parametrize("wrong", ["{", '{"max_age": "x"}', '{"allow_origin_regex": "("}'])
def test_cors_settings_that_are_wrong_are_named(wrong):
    with pytest.raises(ConfigurationError, match="cors.settings"):
        read({"cors_settings": wrong}, {}, None)


def test_an_empty_endpoint_is_not_the_default():
    assert read({"metrics_endpoint": ""}, {}, None).metrics_endpoint == ""


def test_port_zero_is_followed_by_every_listener():
    found = resolve({"http_port": 0}, {}, None)

    assert found.settings.metrics_port == 0
    assert found.origins["metrics_port"] == "http_port 0"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"HEADRACE_HTTP_PORT": "many"}, "HEADRACE_HTTP_PORT: expected integer, got 'many'"),
        ({"HEADRACE_HTTP_PORT": "70000"}, "0 to 65535"),
        ({"HEADRACE_WORKER_UID": "4294967295"}, "HEADRACE_WORKER_UID: expected the number"),
        ({"HEADRACE_DRAIN_TIMEOUT": "-1"}, "expected a number of 0 or more, got -1"),
        ({"HEADRACE_INFER_TIMEOUT": "0"}, "HEADRACE_INFER_TIMEOUT: expected a number above 0"),
        ({"MLSERVER_INFER_TIMEOUT": "nan"}, "MLSERVER_INFER_TIMEOUT: expected a number"),
        ({"HEADRACE_LOG_LEVEL": "loud"}, "HEADRACE_LOG_LEVEL: expected one of"),
        ({"HEADRACE_ROOT_PATH": "ml"}, "begins with /"),
        ({"HEADRACE_EXTENSIONS": "["}, "HEADRACE_EXTENSIONS"),
        ({"MLSERVER_METRICS_REST_SERVER_PREFIX": "rest-server"}, "letters, digits and _"),
    ],
    ids=[
        "no number",
        "no port",
        "no user",
        "negative",
        "nothing",
        "NaN",
        "no choice",
        "no path",
        "no list",
        "no name",
    ],
)
def test_a_wrong_value_is_refused_with_its_place(environ, message):
    with pytest.raises(ConfigurationError) as caught:
        read({}, environ, None)

    assert message in caught.value.message


def test_a_file_that_is_not_utf8_is_refused_with_its_place(tmp_path):
    (tmp_path / "settings.json").write_bytes(b'{"server_name": "\xff"}')

    with pytest.raises(ConfigurationError, match="settings.json: not valid UTF-8 at byte 17"):
        resolve({}, {}, tmp_path)


def test_a_variable_that_is_not_utf8_is_refused_with_its_place():
    with pytest.raises(ConfigurationError, match="HEADRACE_EXTENSIONS: expected JSON; it is not"):
        read({}, {"HEADRACE_EXTENSIONS": "[\udcff"}, None)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that nobody can read")
def test_a_file_that_cannot_be_read_is_refused_with_its_place(tmp_path):
    (tmp_path / "settings.json").symlink_to("/proc/self/mem")

    with pytest.raises(ConfigurationError, match="settings.json: .*Input/output error"):
        resolve({}, {}, tmp_path)


def test_the_model_is_the_argument_or_the_root_or_this_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert model_argument("here", {"MLSERVER_MODEL_REPOSITORY_ROOT": "there"}) == "here"
    assert model_argument(None, {"MLSERVER_MODEL_REPOSITORY_ROOT": "there"}) == "there"
    assert model_argument(None, {}) == "."
    write(tmp_path, model_repository_root="below")
    assert model_argument(None, {}) == "below"


def test_the_port_of_a_platform_counts_in_a_container_and_after_our_own_variables():
    environ = {"PORT": "9000"}
    assert resolve({}, environ, None).settings.http_port == 8080

    environ["HEADRACE_CONTAINER"] = "1"
    found = resolve({}, environ, None)
    assert (found.settings.http_port, found.origins["http_port"]) == (9000, "PORT")

    environ["MLSERVER_HTTP_PORT"] = "9001"
    assert resolve({}, environ, None).settings.http_port == 9001


VARIABLES = [
    prefix + name.upper()
    for prefix in ("HEADRACE_", "MLSERVER_")
    for name, hint in (get_type_hints(ServerSettings) | {"debug": bool}).items()
    if hint not in (str, str | None, tuple[str, ...])
    or ServerSettings.__dataclass_fields__[name].metadata.get("choices")
]


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("flag", [False, True], ids=["alone", "beside a flag"])
def test_a_variable_with_a_value_of_another_type_is_refused_by_name(
    variable: str, flag: bool
) -> None:
    name = variable.partition("_")[2].lower()
    default = getattr(ServerSettings(), name, None)
    flags = {name: default} if flag and default is not None else {}

    with pytest.raises(ConfigurationError, match=f"^{variable}: expected "):
        resolve(flags, {variable: "xyz"}, None)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("", "expected an address; 0.0.0.0 stands for all of them"),
        ("/tmp/x.sock", "got '/tmp/x.sock'; URLs and paths of Unix sockets are neither"),
        ("http://localhost", "got 'http://localhost'; URLs and paths"),
        ("localhost:80", "expected an address without a port, got 'localhost:80'; --http-port and"),
        ("[::1]:80", "expected an address without a port"),
    ],
)
def test_a_host_that_is_something_else_is_refused_with_what_it_is(host: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({"host": host}, {}, None)

    assert caught.value.message.startswith("--host: ")
    assert words in caught.value.message


@pytest.mark.parametrize(
    "name",
    [
        "http://foo:80",
        "foo:80",
        "foo/path",
        "*.example.com",
        "*",
        "foo bar",
        "-foo",
        "[::1]:80",
        "@",
    ],
)
def test_an_allowed_host_that_no_request_can_name_is_refused(name: str) -> None:
    for given, place in (({"allowed_hosts": ("a", name)}, "--allowed-hosts"), ({}, "HEADRACE_ALL")):
        with pytest.raises(ConfigurationError) as caught:
            resolve(given, {"HEADRACE_ALLOWED_HOSTS": f"a,{name}"}, None)

        assert caught.value.message.startswith(place)
        assert f"without scheme, port, path and wildcards, got '{name}'" in caught.value.message


def test_names_and_addresses_are_allowed_hosts() -> None:
    names = ("Models.example.com", "my_host", "10.0.0.1", "[::1]", "xn--bcher-kva.example")

    assert resolve({"allowed_hosts": names}, {}, None).settings.allowed_hosts == names


def test_an_address_may_have_the_brackets_that_it_has_in_a_url() -> None:
    assert resolve({"host": "[::1]"}, {}, None).settings.host == "::1"


def test_one_port_for_two_listeners_names_the_one_that_nobody_gave() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({"http_port": 8081}, {}, None)
    assert caught.value.message == (
        "--http-port: 8081 is also the port of --grpc-port by default; give --grpc-port another "
        "one, or 0 for a free one"
    )

    with pytest.raises(ConfigurationError, match="^HEADRACE_HTTP_PORT: 9000 is also the"):
        resolve({}, {"HEADRACE_HTTP_PORT": "9000", "HEADRACE_METRICS_PORT": "9000"}, None)
    assert resolve({"http_port": 8082, "metrics_endpoint": ""}, {}, None)
    assert resolve({"http_port": 0}, {}, None)

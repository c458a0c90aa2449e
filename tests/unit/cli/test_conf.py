"""`--conf FILE`, and the packages of `--packages`."""

from __future__ import annotations

import pytest

from headrace.cli import conf
from headrace.cli.main import main
from headrace.configuration import resolve
from headrace.errors import ConfigurationError

# As in the samples of the MLflow pluggable scoring server.
OLD = """
port: 5005
host: localhost
plugin: samples/plugin.py
model_uri: models:/wine/1
packages: [ scikit-learn==1.5.0 ]
logging: {
  level: WARN,
  format: '[%(asctime)s] %(levelname)s %(module)s:%(lineno)d: %(message)s'
}
"""


def write(folder, text):
    file = folder / "conf.yaml"
    file.write_text(text)
    return str(file)


def test_the_file_of_the_older_server_is_read(tmp_path):
    found = conf.read(write(tmp_path, OLD))

    assert found.arguments == {
        "plugin": "samples/plugin.py",
        "model": "models:/wine/1",
        "packages": ["scikit-learn==1.5.0"],
    }
    settings = resolve({}, {}, None, found.settings).settings
    assert (settings.http_port, settings.host) == (5005, "localhost")
    assert settings.log_level == "warning"
    assert settings.log_format.startswith("[%(asctime)s]")


def test_flags_and_environment_come_before_the_file_and_it_before_settings_json(tmp_path):
    (tmp_path / "settings.json").write_text('{"http_port": 1, "infer_timeout": 1}')
    file = write(tmp_path, "http_port: 2\ngrpc_port: 2\nmetrics_port: 2")
    environ = {"HEADRACE_GRPC_PORT": "3"}

    found = resolve({"metrics_port": 4}, environ, tmp_path, conf.read(file).settings)

    settings = found.settings
    assert (settings.http_port, settings.grpc_port, settings.metrics_port) == (2, 3, 4)
    assert settings.infer_timeout == 1
    assert found.origins["http_port"] == f"{file}: http_port"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("nonsense: 1", "there is no setting 'nonsense'", id="key"),
        pytest.param("- a", "holds no keys", id="list"),
        pytest.param("a: [", "not valid YAML", id="broken"),
        pytest.param("plugin: 1", "plugin: expected text", id="type"),
        pytest.param("packages: {a: b}", "packages: expected a list", id="packages"),
        pytest.param("logging: {colour: red}", "logging: expected level and format", id="logging"),
    ],
)
def test_a_file_that_is_wrong_says_where(text, words, tmp_path):
    with pytest.raises(ConfigurationError, match=words):
        conf.read(write(tmp_path, text))


@pytest.mark.parametrize("pattern", ["%(nobody)s", "%(message)d", "plain"])
def test_a_format_that_no_log_line_fills_is_refused(pattern, tmp_path):
    given = conf.read(write(tmp_path, f"logging: {{format: '{pattern}'}}"))

    with pytest.raises(ConfigurationError, match="conf.yaml: log_format"):
        resolve({}, {}, None, given.settings)


def test_a_missing_file_is_an_error(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--conf", str(tmp_path / "nowhere.yaml")]) == 2

    assert "No such file" in capsys.readouterr().err


def test_packages_are_separated_by_commas_that_are_not_their_own():
    assert conf.packages("a==1, b>=2,<3,!=2.5 ,c") == ["a==1", "b>=2,<3,!=2.5", "c"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plugin", "mine"], "--plugin needs a MODEL"),
        (["models:/wine/1", "--plugin-class", "Wine"], "--plugin, which is missing"),
    ],
)
def test_arguments_that_lack_their_counterpart_are_refused(arguments, words, capsys):
    assert main(["serve", *arguments]) == 2

    assert words in capsys.readouterr().err

"""How `--plugin` and `--plugin-class` name a class, and which model that gives."""

from __future__ import annotations

import pytest

from headrace.errors import ConfigurationError
from headrace.sources.discovery import open_source
from headrace.sources.plugin_argument import plugin_argument


@pytest.mark.parametrize(
    ("named_class", "implementation"),
    [
        (None, "mine.py:Plugin"),
        ("Wine", "mine.py:Wine"),
        ("plugin.Plugin", "mine.py:Plugin"),
    ],
)
def test_a_file_is_named_with_the_folder_it_is_in(named_class, implementation, tmp_path):
    (tmp_path / "mine.py").touch()

    found = plugin_argument(str(tmp_path / "mine.py"), named_class)

    assert (found.implementation, found.folder) == (implementation, tmp_path)


@pytest.mark.parametrize(
    ("given", "named_class", "implementation"),
    [
        ("package.module", None, "package.module:Plugin"),
        ("package.module", "Wine", "package.module:Wine"),
        ("package.module.Wine", None, "package.module:Wine"),
        ("package.module:Wine", None, "package.module:Wine"),
    ],
)
def test_an_import_path_is_taken_as_it_is(given, named_class, implementation):
    found = plugin_argument(given, named_class)

    assert (found.implementation, found.folder) == (implementation, None)


@pytest.mark.parametrize(
    ("given", "named_class", "words"),
    [
        ("nowhere.py", None, "there is no file 'nowhere.py'"),
        ("no/where", None, "there is no file 'no/where'"),
        ("module:Wine", "Plugin", "so does --plugin-class"),
    ],
)
def test_an_argument_that_names_no_class_is_refused(given, named_class, words):
    with pytest.raises(ConfigurationError, match=words):
        plugin_argument(given, named_class)


def test_any_file_is_a_model_when_a_plugin_loads_it(tmp_path):
    (tmp_path / "plugin.py").touch()
    model = tmp_path / "wine.bin"
    model.touch()
    plugin = plugin_argument(str(tmp_path / "plugin.py"), None)

    source = open_source(str(model), None, {}, plugin, ["pillow"])
    [settings] = source.find("wine")

    assert (settings.uri, settings.folder) == (str(model), str(tmp_path))
    assert settings.environment == {"packages": ["pillow"]}


def test_a_registered_model_keeps_its_name_when_a_plugin_loads_it():
    [found] = open_source("models:/wine@champion", None, {}, plugin_argument("mine", None)).found()

    assert (found.settings.name, found.settings.uri) == ("wine", "models:/wine@champion")
    assert found.settings.implementation == "mine:Plugin"


def test_packages_of_several_models_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model-settings.json").write_text('{"implementation": "sklearn"}')

    with pytest.raises(ConfigurationError, match="--packages is for one model"):
        open_source(str(tmp_path), packages=["pillow"]).found()

"""Services as sources: what names one, and what is wrong with one that cannot be described."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import ConfigurationError
from headrace.runtimes import SERVICE
from headrace.sources import service_source
from headrace.sources.discovery import open_source
from headrace.sources.service_source import ServiceSource, reference_of
from support.services import write_service


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "service.py").write_text("")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("place", "module", "attribute"),
    [
        ("service.py:svc", "service", "svc"),
        ("service.py", "service", ""),
        ("service:svc", "service", "svc"),
        ("package.module:svc.inner", "package.module", "svc.inner"),
        ("./package/module.py:svc", "module", "svc"),
    ],
)
def test_a_file_or_a_module_names_a_service(place, module, attribute, folder):
    found = reference_of(place)

    assert found is not None
    assert (found.module, found.attribute) == (module, attribute)
    assert isinstance(open_source(place), ServiceSource)


@pytest.mark.parametrize(
    "place",
    ["iris:v1", "models:/wine/1", "runs:/abc/model", "s3://bucket/model", ".", "package", "iris"],
)
def test_what_else_is_served_names_no_service(place):
    assert reference_of(place) is None


def fault(file: Path, place: str = "service.py:svc") -> str:
    with pytest.raises(ConfigurationError) as caught:
        open_source(place).found()
    return str(caught.value)


def test_a_service_is_found_with_the_models_of_its_runners(folder, monkeypatch):
    source = """
    svc = Service("s", runners=[stored("a", name="first", max_batch_size=7)])
    svc.api(lambda x: x, input=Text(), output=Text(), name="same")
    """
    write_service(folder, monkeypatch, source, {"a": "return x"})

    runner, service = (model.settings for model in open_source("service.py").found())

    assert (runner.name, runner.max_batch_size) == ("first", 7)
    assert runner.implementation == "model_a.py:Stored"
    assert (service.name, service.implementation) == ("s", SERVICE)
    assert service.inference_pool_gid == "service s"


def test_a_service_with_the_name_of_its_runner_leaves_the_name_to_the_runner(folder, monkeypatch):
    write_service(
        folder, monkeypatch, 'svc = Service("a", runners=[stored("a")])', {"a": "return x"}
    )

    runner, service = (model.settings for model in open_source("service.py").found())
    (_, renamed) = (model.settings for model in open_source("service.py", name="other").found())

    assert (runner.name, runner.implementation) == ("a", "model_a.py:Stored")
    assert (service.name, service.implementation) == ("a-service", SERVICE)
    assert renamed.name == "other"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module", "there is no module 'no_such_module' (service.py, line"),
        ("svc = 1 / 0", "ZeroDivisionError was raised (service.py, line 14): division by zero"),
        ("svc = (", "(service.py, line 14): '(' was never closed"),
        ("svc = 1", "service:svc is not a Service (int); the module has none"),
        ("other = Service('s')", "is not a Service (no such attribute); the module has 'other'"),
        ("svc = Service('S T')", "'S T' is not a name"),
        ("svc = stored('absent')", "absent"),
        ("headrace.sklearn.get('rose')", "`import` bring more (service.py, line"),
        ("headrace.xgboost.get('a b')", "(service.py, line"),
        ("svc = Service('s', runners=3)", "runners must be a list, got int; write runners=[...]"),
        ("import os; os._exit(9)", "ended with status 9 and no answer"),
        (
            "print('not JSON')\nraise SystemExit('enough')",
            "SystemExit was raised (service.py, line 15): enough",
        ),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os; os.closerange(0, 99)", "no answer"),
        (
            "raise ValueError('\\x1b[2J' * 1000)",
            "ValueError was raised (service.py, line 14): \\x1b[2J",
        ),
        ("def f(): f()\nf()", "RecursionError"),
        ("svc = Service('s', models=['a:v1'])", "models must be stored models, such as those of"),
        ("svc = Service('s', runners=['a'])", "runners must be runners"),
        (
            "svc = Service('s')\nsvc.api(lambda x: x, input=JSON, output=JSON(), name='f')",
            "endpoint 'f': its input must be a descriptor such as JSON(), got JSON; call it:",
        ),
        (
            "svc = Service('s')\nsvc.api(lambda x: x, input=JSON(), output=3, name='f')",
            "endpoint 'f': its output must be a descriptor such as JSON(), got int",
        ),
        ("svc = Service('s')\nsvc.api(lambda: 1, output=JSON(), name='metrics')", "is reserved"),
        (
            "svc = Service('s')\nsvc.api(lambda: 1, output=JSON(), name='f', route='/v2/models/f')",
            "endpoint 'f': the server answers /v2/models/f itself",
        ),
        (
            "svc = Service('s')\nsvc.api(lambda: 1, output=JSON(), name='f', route='/metrics')",
            "the server answers /metrics itself",
        ),
        (
            "svc = Service('s')\nsvc.mount_asgi_app(print, path='/v2')",
            "the server answers /v2 itself",
        ),
    ],
)
def test_what_is_wrong_with_a_service_is_said(folder, monkeypatch, source, words):
    assert words in fault(write_service(folder, monkeypatch, source))


def test_the_place_of_a_syntax_error_is_named_once(folder, monkeypatch):
    assert fault(write_service(folder, monkeypatch, "svc = (")).count("line") == 1


def test_a_file_that_is_not_there_is_named(folder):
    assert "there is no file" in fault(folder, "other.py:svc")


def test_several_services_in_a_module_need_a_name(folder, monkeypatch):
    file = write_service(folder, monkeypatch, "a, b = Service('a'), Service('b')")

    assert "several services ('a', 'b'); name one: service.py:a" in fault(file, "service.py")


def test_what_a_service_prints_is_no_part_of_its_description(folder, monkeypatch):
    write_service(folder, monkeypatch, "print('{}')\nsvc = Service('s')")

    assert [model.settings.name for model in open_source("service.py:svc").found()] == ["s"]


def test_packages_are_for_models(folder, monkeypatch):
    write_service(folder, monkeypatch, "svc = Service('s')")

    with pytest.raises(ConfigurationError, match="--packages"):
        open_source("service.py:svc", packages=["a"]).found()


def test_a_service_whose_import_never_ends_is_given_up(folder, monkeypatch):
    monkeypatch.setattr(service_source, "DESCRIBE_TIMEOUT", 0.5)

    words = fault(write_service(folder, monkeypatch, "while True: time.sleep(1)"))

    assert "importing it took more than 0.5 s" in words

"""`bentoml.build`, `bentoml.load` and the like, in BentoML's signatures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import headrace
from headrace.compat.bentoml import bentos
from headrace.errors import ConfigurationError, HeadraceError, InvalidInput

SERVICE = """
import bentoml
from bentoml.io import NumpyNdarray

class Tripled(bentoml.Runnable):
    SUPPORTED_RESOURCES = ("cpu",)
    SUPPORTS_CPU_MULTI_THREADING = True

    def __init__(self):
        self.model = bentoml.picklable_model.load_model("triple:latest")

    @bentoml.Runnable.method(batchable=True, batch_dim=0)
    def ask(self, rows):
        return self.model(rows)

stored = bentoml.models.get("triple:latest")
tripled = bentoml.Runner(Tripled, models=[stored])
svc = bentoml.Service("tripling", runners=[tripled])

@svc.api(input=NumpyNdarray(), output=NumpyNdarray())
async def triple(rows):
    return await tripled.ask.async_run(rows)
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with a service whose runner loads a stored model."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))

    class Triple:
        def __call__(self, rows):
            return rows * 3

    headrace.picklable_model.save_model("triple", Triple())
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "service.py").write_text(SERVICE)
    return folder


@pytest.fixture
def built(project):
    return bentos.build(
        "service:svc",
        labels={"team": "iris"},
        description="It triples.",
        include=["*.py"],
        python={"lock_packages": False},
        build_ctx=str(project),
        version="v1",
    )


def test_what_is_built_from_arguments_has_the_models_of_its_runnables(built):
    assert str(built.tag) == "tripling:v1"
    assert (built.info.labels, built.info.description) == ({"team": "iris"}, "It triples.")
    assert list(Path(built.path, "models").glob("triple/*/*.pkl"))
    assert bentos.get("tripling:latest") == built
    assert bentos.list() == bentos.list("tripling") == [built]


def test_what_is_built_from_a_file_is_the_same(project, built):
    (project / "bentofile.yaml").write_text(
        "service: 'service:svc'\nlabels: {team: iris}\ndescription: It triples.\n"
        "include: ['*.py']\npython: {lock_packages: false}\n"
    )
    again = bentos.build_bentofile("bentofile.yaml", build_ctx=str(project), version="v2")

    assert (again.info.name, again.info.service) == (built.info.name, built.info.service)
    assert bentos.build_bentofile(build_ctx=str(project), version="v3").tag.version == "v3"


def test_an_argument_that_is_wrong_is_named(project):
    with pytest.raises(ConfigurationError, match="options: python: there is no key 'packges'"):
        bentos.build("service:svc", python={"packges": []}, build_ctx=project)


def ask(service):
    (runner,) = service.runners
    runner.init_local(quiet=True)
    return runner.ask.run(np.ones(2)).tolist()


@pytest.mark.parametrize("place", ["service.py:svc", "service:svc", "service.py"])
def test_a_service_is_loaded_from_its_file(project, place):
    service = headrace.load(place, working_dir=str(project))

    assert (service.name, ask(service)) == ("tripling", [3.0, 3.0])


def test_a_service_is_loaded_from_a_folder_with_a_build_file(project):
    (project / "bentofile.yaml").write_text("service: 'service.py:svc'\n")

    assert headrace.load(str(project)).name == "tripling"


@pytest.mark.parametrize("place", ["tag", "bundle", "folder"])
def test_a_service_is_loaded_from_a_bundle_with_the_models_in_it(built, monkeypatch, place):
    # Set by what is loaded, and to be forgotten after the test.
    for name in ("HEADRACE_BUNDLE", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "")
    headrace.models.delete("triple")
    service = headrace.load({"tag": "tripling:v1", "bundle": built, "folder": built.path}[place])

    assert ask(service) == [3.0, 3.0]


@pytest.mark.parametrize("place", ["nothing.py:svc", "nothing:v1", "."])
def test_what_is_not_there_cannot_be_loaded(project, place, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(HeadraceError, match="nothing" if "nothing" in place else "'.'"):
        headrace.load(place)


@pytest.mark.parametrize(
    ("path", "form", "written"),
    [
        ("a.bento", None, "a.bento"),
        ("b.tar.gz", "gz", "b.tar.gz"),
        ("c", "folder", "c"),
    ],
)
def test_a_bundle_goes_out_and_comes_in_again(built, tmp_path, path, form, written):
    exported = bentos.export_bento("tripling:v1", str(tmp_path / path), form)
    bentos.delete("tripling:v1")

    assert exported == str(tmp_path / written)
    assert bentos.import_bento(exported) == built


def test_a_bundle_is_pushed_to_a_store_that_is_named(built, tmp_path):
    url = (tmp_path / "shared").as_uri()
    (tmp_path / "shared").mkdir()
    bentos.push("tripling:v1", url)
    bentos.delete("tripling:v1")

    assert bentos.pull("tripling:v1", url) == built


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bentos.push("a"), r"push: there is no Yatai here.*push\(tag, 's3://"),
        (lambda: bentos.pull("a"), "pull: there is no Yatai here"),
        (lambda: bentos.push("a", "s3://b", force=True), "a version is never replaced"),
        (lambda: bentos.export_bento("a", "b", "bz2"), "output_format: expected one of 'bento'"),
        (lambda: bentos.export_bento("a", "b", user="me"), "'user': a path or the URL"),
        (lambda: bentos.import_bento("a", subpath="b"), "'subpath': a path or the URL"),
    ],
)
def test_what_has_no_meaning_here_is_refused_in_words(call, words):
    with pytest.raises(InvalidInput, match=words):
        call()

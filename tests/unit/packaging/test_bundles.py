"""Bundles: what is in one, that equal inputs make equal ones, and that the store keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import headrace
from headrace import bundles
from headrace.errors import Conflict, HeadraceError, InvalidModel
from headrace.packaging import bundle_lock
from headrace.sources.discovery import open_source, settings_folder
from headrace.store.kinds import BUNDLE_VARIABLE

SERVICE = """\
import headrace
from headrace.io import JSON
double = headrace.models.get("double:latest").to_runner()
svc = headrace.Service("doubling", runners=[double])
@svc.api(input=JSON(), output=JSON(), route="/twice")
def twice(value):
    "Twice the value."
    return double.run(value)
"""


class Double:
    def __call__(self, x):
        return x * 2


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    # Reading a bundle sets both; they are put back after the test.
    monkeypatch.setenv(BUNDLE_VARIABLE, "")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path):
    """A service over one stored model, with a build file that leaves the lock out."""
    headrace.picklable_model.save_model("double:v1", Double())
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "service.py").write_text(SERVICE)
    (folder / "headrace.yaml").write_text(
        "service: service.py:svc\nlabels: {owner: me}\ninclude: ['*.py']\n"
        "python: {packages: [nltk==3.9.1, mlserver], lock_packages: false}\n"
        "docker: {system_packages: [libgomp1], env: {GREETING: hello}}\n"
    )
    return folder


def test_a_bundle_of_a_service_holds_all_that_it_needs(project, tmp_path):
    built = bundles.build(project)

    path = tmp_path / "home/bundles/doubling" / str(built.tag.version)
    assert built.path == f"{path}/"
    assert (path / "src/service.py").read_text() == SERVICE
    assert (path / "models/double/v1/model.yaml").is_file()
    assert (path / "models/double/latest").read_text() == "v1"
    requirements = (path / "env/python/requirements.txt").read_text().splitlines()
    assert requirements[0] == "--find-links ./wheels"
    assert requirements[1].startswith("headrace[pickle]==")
    assert requirements[2:] == ["nltk==3.9.1"]
    assert "'mlserver': left out" in built.notes[0]
    document = json.loads((path / "apis/openapi.json").read_text())
    assert document["paths"]["/twice"]["post"]["summary"] == "Twice the value."
    bill = json.loads((path / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert {"double"} <= {each["name"] for each in bill["components"]}
    text = (path / "env/docker/Dockerfile").read_text()
    assert 'ENV GREETING="hello"' in text
    assert '"install", "libgomp1"]' in text
    assert built.info.endpoints == ({"name": "twice", "route": "/twice", "method": "POST"},)
    assert built.info.models[0]["tag"] == "double:v1"
    assert built.info.labels == {"owner": "me"}


def test_two_builds_of_the_same_have_one_digest_and_a_change_has_another(project):
    first, second = bundles.build(project), bundles.build(project)
    assert first.tag != second.tag
    assert first.info.digest == second.info.digest
    assert not list(project.parent.rglob("__pycache__"))

    (project / "service.py").write_text(SERVICE + "# changed\n")
    assert bundles.build(project).info.digest != first.info.digest


def test_a_version_may_be_given_once(project):
    assert str(bundles.build(project, version="v1").tag) == "doubling:v1"

    with pytest.raises(Conflict, match="bundle 'doubling:v1' exists"):
        bundles.build(project, version="v1")


def test_a_bundle_finds_its_own_models_after_those_of_the_store_are_gone(project):
    built = bundles.build(project)
    headrace.models.delete("double")

    found = open_source(str(built.tag)).found()

    assert [model.settings.name for model in found] == ["double", "doubling"]
    assert found[0].settings.uri.startswith(built.path)


def test_an_exported_bundle_is_imported_elsewhere_and_served_from_its_folder(
    project, tmp_path, monkeypatch
):
    built = bundles.build(project)
    archive = bundles.export_bundle(built, tmp_path / "out.tar.gz")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "elsewhere"))

    imported = bundles.import_bundle(archive)

    assert imported == built
    assert imported.path != built.path
    imported.verify()
    assert len(open_source(imported.path).found()) == 2
    assert bundles.delete("doubling") == [built.tag]
    assert bundles.list() == []


def test_a_changed_file_in_a_bundle_is_found_before_it_is_served(project):
    built = bundles.build(project)
    with open(f"{built.path}src/service.py", "a") as file:
        file.write("import os\n")

    with pytest.raises(HeadraceError, match=r"'src/service\.py'"):
        open_source(str(built.tag)).found()


def test_a_bundle_without_a_service_serves_a_folder_of_models_and_stored_ones(tmp_path):
    headrace.picklable_model.save_model("double:v1", Double())
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "model-settings.json").write_text('{"implementation": "mine.Mine", "name": "mine"}')
    (folder / "mine.py").write_text("class Mine: pass\n")
    (folder / "headrace.yaml").write_text(
        "name: both\nmodels: [double]\npython: {lock_packages: false}\n"
    )

    built = bundles.build(folder)

    assert built.tag.name == "both"
    assert built.info.service is None
    found = open_source(str(built.tag)).found()
    assert [model.settings.name for model in found] == ["mine", "double"]
    assert settings_folder("both") == settings_folder(built.path) == Path(built.path, "src")


WRONG = [
    ("service: other.py:svc", "there is no file other.py among the sources; does include take it?"),
    ("service: service.py:nope", "nope is not a Service"),
    ("include: ['*.md']", "include takes no file"),
    ("service: service.py:svc\nmodels: [none:v1]", "models: model 'none:v1' is not in the store"),
    ("name: x\nexclude: ['*']\nmodels: []", "include takes no file"),
    ("name: x", "there is nothing to serve: no service, no models"),
    ("service: service.py:svc\npython: {packages: ['-e ../x']}", "its requirements name"),
]


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[words[:30] for _, words in WRONG])
def test_what_cannot_be_built_is_refused_and_leaves_nothing(project, text, words, home):
    (project.parent / "x").mkdir()
    (project / "headrace.yaml").write_text(text)

    with pytest.raises(HeadraceError) as caught:
        bundles.build(project)

    assert words in caught.value.message
    assert [path for path in (home / "bundles").glob("*") if not path.name.startswith(".")] == []
    assert list((home / "bundles/.staging").glob("*")) == []


def test_a_record_that_leads_out_of_its_bundle_is_refused(project):
    built = bundles.build(project)
    with open(f"{built.path}bundle.yaml") as file:
        record = file.read()
    with open(f"{built.path}bundle.yaml", "w") as file:
        file.write(record.replace("service.py:svc", "../../evil.py:svc"))

    with pytest.raises(InvalidModel, match="service: leads out of the bundle"):
        bundles.get(built.tag)


def test_packages_of_a_lock_are_read_with_their_digests():
    text = (
        "a==1 ; python_version < '3' \\\n    --hash=sha256:bb \\\n    --hash=sha256:aa\nb[x]==2\n"
    )

    assert bundle_lock.packages(text) == [("a", "1", ["aa", "bb"]), ("b", "2", [])]

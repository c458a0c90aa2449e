"""Build files: what each key means, and what is said of one that is wrong."""

from __future__ import annotations

import os

import pytest

from headrace.errors import ConfigurationError
from headrace.packaging import build_file
from headrace.packaging.build_file import BuildFile
from headrace.sources.folder_source import BUILD_FILES
from headrace.store.tag import Tag


@pytest.fixture
def read(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()

    def read_text(text: str, **environ: str) -> BuildFile:
        (folder / "headrace.yaml").write_text(text)
        return build_file.read(folder / "headrace.yaml", folder, environ)

    read_text.folder = folder
    return read_text


def test_every_key_of_a_bentofile_is_read(read):
    for name in ("requirements.txt", "conda.yaml", "setup.sh", "README.md", "mine-1-py3-none.whl"):
        (read.folder / name).write_text(f"# {name}")

    found = read("""
service: "service.py:svc"
name: iris
description: "file: README.md"
labels: {owner: me}
include: ["*.py", "data/*.csv"]
exclude: ["tests/"]
models: ["iris:latest", {tag: "other:v1"}]
python:
  requirements_txt: requirements.txt
  packages: [scikit-learn==1.5, pandas]
  lock_packages: False
  index_url: https://index.example.com/simple
  extra_index_url: [https://a.example.com/simple]
  find_links: https://links.example.com/
  trusted_host: [a.example.com]
  no_index: false
  wheels: [mine-1-py3-none.whl]
conda:
  environment_yml: conda.yaml
  channels: [conda-forge]
  dependencies: [openjdk]
  pip: [nltk]
docker:
  distro: debian
  python_version: 3.12
  cuda_version: 12.1
  env: [A=1, "B=x y"]
  system_packages: [libgomp1]
  setup_script: ./setup.sh
  base_image: localhost/base:1
""")

    assert (found.service, found.name, found.description) == (
        "service.py:svc", "iris", "# README.md"
    )  # fmt: skip
    assert found.labels == {"owner": "me"}
    assert (found.include, found.exclude) == (("*.py", "data/*.csv"), ("tests/",))
    assert found.models == (Tag("iris", "latest"), Tag("other", "v1"))
    assert found.python.requirements == read.folder / "requirements.txt"
    assert found.python.packages == ("scikit-learn==1.5", "pandas")
    assert not found.python.lock
    assert found.python.options == (
        "--index-url https://index.example.com/simple",
        "--extra-index-url https://a.example.com/simple",
        "--find-links https://links.example.com/",
        "--trusted-host a.example.com",
    )
    assert [wheel.name for wheel in found.python.wheels] == ["mine-1-py3-none.whl"]
    assert found.conda.environment == read.folder / "conda.yaml"
    assert (found.conda.dependencies, found.conda.pip) == (("openjdk",), ("nltk",))
    assert found.docker.env == {"A": "1", "B": "x y"}
    assert found.docker.python_version == "3.12"
    assert found.docker.gpu
    assert found.docker.system_packages == ("libgomp1",)
    assert found.docker.setup_script == read.folder / "setup.sh"
    assert found.docker.base_image == "localhost/base:1"


def test_what_is_left_out_has_the_defaults_of_bentoml(read):
    found = read("service: service:svc")

    assert found.include == ("*",)
    assert found.python.lock
    assert found.docker.base_image is None


CASES = [
    ("servce: a:b", "there is no key 'servce'; did you mean 'service'?"),
    (
        "docker: {systm_packages: [a]}",
        "docker: there is no key 'systm_packages'; did you mean 'sys",
    ),
    ("python: {zzz: 1}", "python: there is no key 'zzz'; the keys are requirements_txt, packages"),
    ("[a]", "expected a mapping"),
    ("", "headrace.yaml: expected a mapping, it is empty"),
    ("a: {", "is not valid YAML"),
    ("service: s:svc\ninclude: []\n python: {}\n", "levels: line 3: "),
    ("service: ../other.py:svc", "service: expected module:attribute or service.py:attribute"),
    ("service: /etc/x.py:svc", "service: expected module:attribute"),
    ('service: "a:b; id"', "service: expected module:attribute"),
    ('service: "a:b\\nRUN id"', "has a line break or another control character"),
    ("service: {a: b}", "service: expected text, got dict"),
    ('name: "a\\nb"', "name: 'a\\nb' has a line break"),
    ("name: a b", "name: 'a b' is not the name of a tag"),
    ("name: ../x", "name: '../x' is not the name of a tag"),
    ("labels: [a]", "labels: expected a mapping of text to text"),
    ("labels: {a: [b]}", "labels: expected a mapping of text to text at 'a'"),
    ('labels: {a: "b\\nc"}', "labels.a: has a line break"),
    ('include: ["../../etc"]', "include: '../../etc' leads out of the folder"),
    ('include: ["a/../../etc"]', "leads out of the folder"),
    ('exclude: ["~/x"]', "exclude: '~/x' leads out of the folder"),
    ('models: ["a b:c"]', "models: 'a b' is not the name of a tag"),
    ("models: [{tga: a}]", "models: there is no key 'tga'; did you mean 'tag'?"),
    ("models: [{tag: a, filter: x}]", "models.filter: a model is taken whole"),
    ("python: {requirements_txt: /etc/passwd}", "requirements_txt: '/etc/passwd' leads out of"),
    ("python: {requirements_txt: ../r.txt}", "leads out of the folder"),
    ("python: {requirements_txt: none.txt}", "requirements_txt: there is no file 'none.txt'"),
    ("python: {requirements_txt: $NONE/r.txt}", "the environment has no variable NONE"),
    ("python: {lock_packages: maybe}", "lock_packages: expected true or false, got 'maybe'"),
    ("python: {index_url: 'x y'}", "python.index_url: expected a URL, got 'x y'"),
    ("python: {pip_args: --no-deps}", "python.pip_args: options of pip cannot be passed on"),
    ("python: 3", "python: expected a mapping"),
    ("docker: {distro: alpine}", "docker.distro: expected debian, got 'alpine'"),
    ("docker: {python_version: 2.7}", "docker.python_version: expected 3.11 or later, got '2.7'"),
    ("docker: {base_image: 'a b'}", "docker.base_image: expected the name of an image"),
    ('docker: {base_image: "a\\nRUN id"}', "docker.base_image: 'a\\nRUN id' has a line break"),
    ("docker: {env: [A]}", "docker.env: expected NAME=VALUE, got 'A'"),
    ("docker: {env: {A B: c}}", "docker.env: expected the name of a variable"),
    ('docker: {env: ["A=b\\nRUN id"]}', "docker.env: the value of A has a line break"),
    ("docker: {env: ../secrets.env}", "docker.env: '../secrets.env' leads out of the folder"),
    ('docker: {system_packages: ["a; rm -rf /"]}', "system_packages: expected the name of a Deb"),
    ('docker: {system_packages: ["-o=x"]}', "system_packages: expected the name of a Debian"),
    ("docker: {setup_script: ../x.sh}", "docker.setup_script: '../x.sh' leads out of the folder"),
    ("docker: {dockerfile_template: x}", "docker.dockerfile_template: templates are not supported"),
]


@pytest.mark.parametrize(("text", "words"), CASES, ids=[text[:40] for text, _ in CASES])
def test_a_wrong_build_file_is_refused_with_the_file_the_key_and_the_fault(read, text, words):
    with pytest.raises(ConfigurationError) as caught:
        read(text)

    assert words in caught.value.message
    assert "headrace.yaml" in caught.value.message


@pytest.mark.parametrize("name", build_file.MODEL_PATHS)
@pytest.mark.parametrize("given", build_file.MODEL_PATHS)
def test_a_variable_leads_to_the_requirements_of_a_model_under_any_of_its_names(
    read, tmp_path, name, given
):
    file = tmp_path / "stored/mlflow_model/requirements.txt"
    file.parent.mkdir(parents=True)
    file.write_text("scikit-learn\n")
    text = f"python: {{requirements_txt: ${name}/mlflow_model/requirements.txt}}"

    found = read(text, **{given: str(tmp_path / "stored")})

    assert found.python.requirements == file


def test_shell_in_a_variable_of_the_image_is_text(read):
    found = read('docker: {env: {A: "$(id) `id` ${HOME} \\" \\\\"}}')

    assert found.docker.env == {"A": '$(id) `id` ${HOME} " \\'}


@pytest.mark.parametrize("name", BUILD_FILES)
def test_build_files_of_all_three_names_are_found(tmp_path, name):
    assert build_file.find(tmp_path) is None

    (tmp_path / name).write_text("service: a:b")

    assert build_file.find(tmp_path) == tmp_path / name


def test_a_key_that_is_null_is_one_that_is_not_there(read):
    found = read("""
service: svc:svc
name: null
labels: ~
conda: null
python: {packages: null, lock_packages: ~}
""")

    assert (found.name, found.labels, found.conda.pip) == (None, {}, ())
    assert (found.python.packages, found.python.lock) == ((), True)


def test_what_pip_installs_may_be_among_the_dependencies_of_conda(read):
    found = read("conda: {dependencies: [openjdk, {pip: [nltk, spacy]}], pip: [pandas]}")

    assert found.conda.dependencies == ("openjdk",)
    assert found.conda.pip == ("pandas", "nltk", "spacy")
    with pytest.raises(ConfigurationError, match="dependencies: expected text, got dict"):
        read("conda: {dependencies: [{npm: [x]}]}")


@pytest.mark.parametrize("key", ["docker: {env: file}", "description: 'file: file'"])
@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe\xff", "is not UTF-8 text"), (bytes(2_000_000), "is larger than 1048576 bytes")],
    ids=["not text", "too large"],
)
def test_a_file_that_a_key_names_is_small_and_text(read, key, content, words):
    (read.folder / "file").write_bytes(content)

    with pytest.raises(ConfigurationError, match=f"'file' {words}"):
        read(key)


def test_a_build_file_that_is_a_pipe_is_refused(read):
    os.mkfifo(read.folder / "pipe.yaml")

    with pytest.raises(ConfigurationError, match="is not a file"):
        build_file.read(read.folder / "pipe.yaml", read.folder, {})


def test_a_large_build_file_and_one_of_many_aliases_are_refused(read):
    with pytest.raises(ConfigurationError, match="is larger than 1048576 bytes"):
        read("service: a:b\n#" + "x" * 2_000_000)
    bomb = "".join(f"- &a{n} [{','.join([f'*a{n - 1}'] * 9 if n else ['x'])}]\n" for n in range(30))
    with pytest.raises(ConfigurationError, match="include: expected text, got list"):
        read("include:\n" + bomb)

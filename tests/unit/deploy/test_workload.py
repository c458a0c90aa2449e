"""What SOURCE is, for every target."""

from __future__ import annotations

import json

import pytest

from headrace import __version__, bundles, picklable_model
from headrace.deploy import checks
from headrace.deploy.workload import GIB, Options, find
from headrace.errors import ConfigurationError
from support.custom import write_model


def test_a_folder_of_one_model_has_its_name_and_the_image_that_a_build_is_named(tmp_path):
    found = find(str(write_model(tmp_path, name="Wine_2")), Options(), "none")

    assert (found.kind, found.name, found.image) == ("folder", "wine-2", "wine-2")
    assert found.models == ("Wine_2",)
    assert found.command == ["serve"]


def test_a_folder_of_several_models_has_the_name_of_the_folder(tmp_path):
    for name in ("a", "b"):
        write_model(tmp_path / "My Models", name=name)

    found = find(str(tmp_path / "My Models"), Options(), "none")

    assert (found.name, found.model_format) == ("my-models", "headrace")
    assert found.models == ("a", "b")


def test_a_uri_is_fetched_by_the_server_in_an_image_without_models():
    found = find("models:/Wine Quality@champion", Options(), "none")

    assert (found.kind, found.name) == ("uri", "wine-quality")
    assert found.image == f"headrace:{__version__}"
    assert found.command == ["serve", "models:/Wine Quality@champion"]


def test_a_stored_model_and_a_bundle_have_the_image_of_their_tag(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    stored = picklable_model.save_model("iris:v1", len)
    (tmp_path / "headrace.yaml").write_text(
        "name: packed\nmodels: ['iris:v1']\npython: {lock_packages: false}\n"
    )
    bundle = bundles.build(tmp_path, version="7")

    model = find(str(stored.tag), Options(), "none")
    packed = find(str(bundle.tag), Options(), "none")
    by_folder = find(bundle.path.rstrip("/"), Options(), "none")

    assert (model.kind, model.image, model.model_format) == ("model", "iris:v1", "pickle")
    assert (packed.kind, packed.name, packed.image) == ("bundle", "packed", "packed:7")
    assert by_folder.image == packed.image


def test_a_service_has_its_own_name(tmp_path):
    (tmp_path / "service.py").write_text("import headrace\nsvc = headrace.Service('Sum_Up')\n")

    found = find(f"{tmp_path}/service.py:svc", Options(), "none")

    assert (found.kind, found.name, found.image) == ("service", "sum-up", "sum-up")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("wine", "wine"),
        ("Wine Quality!", "wine-quality"),
        ("2nd", "model-2nd"),
        ("--", "model"),
        ("Ünï 7", "n-7"),
        ("a" * 70, "a" * 50),
        ("a" * 49 + "-b", "a" * 49),
        ('"}\n---\nkind: Secret', "kind-secret"),
    ],
)
def test_a_name_that_is_made_of_another_is_valid(text, name):
    made = checks.name_from(text)

    assert made == name
    assert checks.name(made, "--name") == made


@pytest.mark.parametrize("name", ["Wine", "1a", "a-", "-a", "a_b", "a.b", "", "a" * 51, "a\n"])
def test_a_name_that_is_given_is_taken_as_it_is_or_refused(name):
    with pytest.raises(ConfigurationError, match="--name: expected lower-case letters"):
        checks.name(name, "--name")


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.cpu, ["1", "0.5", "500m", "16"], ["0", "0m", "1.5m", "-1", "1e3", "", "9" * 20]),
        (checks.memory, ["512Mi", "4Gi", "1.5G"], ["0", "0.5", "1Ki", "4GB", "-1Gi", "", "x"]),
        (checks.secret, ["a", "a.b-c"], ["A", "-a", "a_b", "", "a/b"]),
    ],
)
def test_amounts_and_secrets_are_checked(check, good, bad):
    assert [check(each) for each in good] == good
    for each in bad:
        with pytest.raises(ConfigurationError):
            check(each)


def test_digits_of_other_scripts_and_amounts_that_no_machine_has_are_no_amounts():
    amounts = {checks.cpu: ["٣", "0.0001", "9999999"], checks.memory: ["٣Gi", "1025Ti", "9" * 30]}
    for check, bad in amounts.items():
        for each in bad:
            with pytest.raises(ConfigurationError, match="expected a"):
                check(each)
    for each in ("٣", "0000000000007", "100001"):
        with pytest.raises(ConfigurationError, match="--gpus: expected a whole number"):
            checks.whole(each, "--gpus", least=0)


def test_amounts_have_their_size():
    assert [checks.cores(each) for each in ("2", "0.5", "1500m")] == [2, 0.5, 1.5]
    sizes = [checks.size(each) for each in ("512Mi", "1.5Gi", "2G", "10k", "7")]
    assert sizes == [512 * 1024**2, 3 * GIB // 2, 2_000_000_000, 10_000, 7]


@pytest.mark.parametrize("pair", ["A", "=b", "1A=b", "A B=c", "A=b\nC=d", "A=\x07", "A=\udcff"])
def test_a_variable_that_is_none_is_refused(pair):
    with pytest.raises(ConfigurationError, match="--env: "):
        checks.variables([pair])


def test_memory_grows_with_the_files_of_the_models(tmp_path):
    folder = write_model(tmp_path, instances=2)
    with (folder / "weights").open("wb") as file:
        file.truncate(GIB)

    assert find(str(folder), Options(), "none").memory == "8Gi"
    assert find(str(folder), Options(memory="3Gi"), "none").memory == "3Gi"
    assert find(str(write_model(tmp_path, name="small")), Options(), "none").memory == "2Gi"


def test_cores_are_those_of_the_workers_that_the_settings_ask_for(tmp_path):
    folder = write_model(tmp_path)
    (folder / "settings.json").write_text('{"parallel_workers": 4}')

    limits = find(str(folder), Options(gpus=2), "none").resources["limits"]

    assert limits == {"cpu": "4", "memory": "2Gi", "nvidia.com/gpu": 2}


def test_a_canary_in_containers_needs_a_record_that_outlives_them(tmp_path):
    settings = {
        "name": "wine",
        "implementation": "mlflow",
        "parameters": {"uri": "models:/wine@champion"},
        "follow": {"canary": {"alias": "@challenger", "percent": 10}},
    }
    (tmp_path / "model-settings.json").write_text(json.dumps(settings))
    tags = {"HEADRACE_FOLLOW_TAGS": "true"}

    (note,) = find(str(tmp_path), Options(), "none").notes

    assert "wine" in note
    assert "HEADRACE_FOLLOW_TAGS" in note
    assert find(str(tmp_path), Options(env=tags), "none").notes == ()
    assert find(str(tmp_path), Options(), "none", keeps_home=True).notes == ()


def test_ports_and_times_are_those_that_the_server_will_have(tmp_path):
    folder = write_model(tmp_path)
    settings = '{"http_port": 9999, "drain_timeout": 12, "metrics_endpoint": ""}'
    (folder / "settings.json").write_text(settings)

    plain = find(str(folder), Options(env={"HEADRACE_GRPC_PORT": "7"}), "none")
    on_kserve = find(str(folder), Options(), "kserve")

    variables = plain.variables()
    assert (variables["HEADRACE_HTTP_PORT"], variables["HEADRACE_GRPC_PORT"]) == ("9999", "7")
    assert variables["HEADRACE_DRAIN_TIMEOUT"] == "12"
    assert plain.metrics_path is None
    # What the platform relies on comes before the file.
    assert on_kserve.variables("kserve")["HEADRACE_HTTP_PORT"] == "8080"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "is empty"),
        ("a\nExecStart=/bin/false", "cannot be printed"),
        ("file:/tmp/wine", "give its path instead"),
        ("/no/such/folder", "does not exist"),
        ("no-such:tag", "no-such"),
    ],
)
def test_a_source_that_is_nothing_is_refused(source, words, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))

    with pytest.raises(ConfigurationError, match=words):
        find(source, Options(), "none")


def test_a_folder_without_a_model_says_what_it_looked_for(tmp_path):
    with pytest.raises(ConfigurationError, match="no model-settings.json in it or below it"):
        find(str(tmp_path), Options(), "none")

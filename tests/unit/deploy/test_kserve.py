"""KServe's manifests, by KServe's own schemas and beside its own runtime."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.deploy import kserve
from headrace.deploy.workload import Options
from headrace.errors import ConfigurationError
from support.custom import write_model
from support.custom_resources import faults, kserve_data

DEFINITIONS = {
    "ClusterServingRuntime": "serving.kserve.io_clusterservingruntimes.yaml.gz",
    "InferenceService": "serving.kserve.io_inferenceservices.yaml.gz",
}


def of(source: Path | str, **flags: Any) -> dict[str, dict[str, Any]]:
    """The manifests by their kind."""
    _, manifests = kserve.manifests(str(source), Options(**flags))
    return {str(each["kind"]): dict(each) for each in manifests}


def problems(manifest: dict[str, Any]) -> list[str]:
    return faults(manifest, kserve_data() / DEFINITIONS[manifest["kind"]])


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The part of a manifest that describes the server's container."""
    spec = copy.deepcopy(manifest["spec"])
    manifest["spec"] = spec
    found: dict[str, Any] = (
        spec["predictor"]["model"] if "predictor" in spec else spec["containers"][0]
    )
    return found


def mlserver() -> dict[str, Any]:
    """KServe's own runtime for MLServer."""
    found: dict[str, Any] = yaml.safe_load((kserve_data() / "kserve-mlserver.yaml").read_text())
    return found


def write_mlmodel(folder: Path, version: str = "3.1.0") -> Path:
    folder.mkdir()
    flavor = "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"
    (folder / "MLmodel").write_text(f"mlflow_version: {version}\n{flavor}")
    return folder


def test_a_model_that_kserve_fetches_gets_a_runtime_and_a_service_that_kserves_schemas_allow(
    tmp_path,
):
    found = of(
        write_mlmodel(tmp_path / "wine"),
        storage_uri="s3://bucket/wine",
        env={"A": "1"},
        secrets=("login",),
        gpus=1,
        max_replicas=3,
    )

    assert list(found) == ["ClusterServingRuntime", "InferenceService"]
    assert {kind: problems(each) for kind, each in found.items()} == dict.fromkeys(found, [])
    model = found["InferenceService"]["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "mlflow", "version": "3"}
    assert model["storageUri"] == "s3://bucket/wine"
    assert model["runtime"] == found["ClusterServingRuntime"]["metadata"]["name"]


def test_an_image_that_holds_what_it_serves_gets_a_service_that_kserves_schema_allows(tmp_path):
    found = of(write_model(tmp_path), image="registry.example.com/m:1", secrets=("login",))

    (service,) = found.values()
    assert problems(service) == []
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["image"] == "registry.example.com/m:1"
    assert container["args"] == ["serve"]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_the_schemas_refuse_a_field_that_kserve_would_drop_and_a_wrong_type(kind):
    unknown, wrong = (of("s3://bucket/wine")[kind] for _ in range(2))

    container_of(unknown)["livenessprobe"] = {}
    container_of(wrong)["resources"] = {"requests": {"cpu": ["1"]}}

    assert any("livenessprobe" in fault for fault in problems(unknown))
    assert any("cpu" in fault for fault in problems(wrong))
    assert problems(mlserver()) == []


def test_the_runtime_serves_every_format_and_protocol_of_kserves_runtime_for_mlserver(tmp_path):
    spec = of("s3://bucket/wine")["ClusterServingRuntime"]["spec"]
    theirs = mlserver()["spec"]

    def named(each: dict[str, Any]) -> tuple[str, str]:
        return each["name"], each["version"]

    ours = {(each["name"], each.get("version", "")) for each in spec["supportedModelFormats"]}
    assert {named(each) for each in theirs["supportedModelFormats"]} <= ours
    assert spec["protocolVersions"] == ["v1", "v2", "grpc-v2"]
    assert spec["annotations"] == theirs["annotations"]
    (container,), (their_container,) = spec["containers"], theirs["containers"]
    assert container["name"] == their_container["name"]
    assert container["securityContext"].items() >= their_container["securityContext"].items()
    assert container["resources"] == their_container["resources"]


def test_what_models_of_one_runtime_share_does_not_depend_on_any_of_them(tmp_path):
    folder = write_mlmodel(tmp_path / "wine")
    (folder / "settings.json").write_text('{"drain_timeout": 90, "parallel_workers": 2}')
    flags = {"env": {"A": "1"}, "memory": "8Gi", "secrets": ("login",), "replicas": 3}

    plain = of("s3://bucket/other", image="hr:1")
    other = of(folder, storage_uri="s3://bucket/wine", image="hr:1", **flags)

    assert plain["ClusterServingRuntime"] == other["ClusterServingRuntime"]
    model = other["InferenceService"]["spec"]["predictor"]["model"]
    assert model["env"] == [
        {"name": "HEADRACE_DRAIN_TIMEOUT", "value": "90"},
        {"name": "A", "value": "1"},
    ]
    assert model["resources"]["limits"] == {"cpu": "2", "memory": "8Gi"}
    named = of("s3://bucket/other", shared="torch")
    assert named["ClusterServingRuntime"]["metadata"]["name"] == "torch"
    assert named["InferenceService"]["spec"]["predictor"]["model"]["runtime"] == "torch"


def test_a_port_that_the_runtime_does_not_have_is_refused():
    with pytest.raises(ConfigurationError, match="http_port is 9999, but it is 8080 for every"):
        of("s3://bucket/wine", env={"HEADRACE_HTTP_PORT": "9999"})


def test_probes_speak_tls_and_ask_from_inside_where_clients_need_a_certificate(tmp_path):
    certified = {"HEADRACE_SSL_CERTFILE": "/tls/tls.crt"}
    strict = {**certified, "HEADRACE_SSL_CA_CERTS": "/tls/ca.crt"}
    source = write_model(tmp_path)

    def probe(env: dict[str, str], kind: str) -> dict[str, Any]:
        service = of(source, image="i", env=env)["InferenceService"]
        found: dict[str, Any] = container_of(service)[f"{kind}Probe"]
        return found

    def container_of(service: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = service["spec"]["predictor"]["containers"][0]
        return found

    assert "scheme" not in probe({}, "liveness")["httpGet"]
    assert probe(certified, "liveness")["httpGet"]["scheme"] == "HTTPS"
    assert probe(strict, "liveness")["exec"]["command"] == ["headrace", "health", "--live"]
    assert probe(strict, "startup")["exec"]["command"] == ["headrace", "health", "--live"]
    assert probe(strict, "readiness")["exec"]["command"] == ["headrace", "health"]


def test_tls_of_one_model_of_a_runtime_is_refused():
    with pytest.raises(ConfigurationError, match="^ssl_certfile is /x, but it is off for every"):
        of("s3://bucket/m", env={"HEADRACE_SSL_CERTFILE": "/x"})


def test_the_runtime_is_not_chosen_for_models_that_do_not_name_it():
    spec = of("s3://bucket/wine")["ClusterServingRuntime"]["spec"]

    assert not any(each["autoSelect"] for each in spec["supportedModelFormats"])


def test_the_root_is_read_only_and_tmp_is_the_only_folder_that_is_mounted(tmp_path):
    runtime = of("s3://b/w")["ClusterServingRuntime"]["spec"]
    service = of(write_model(tmp_path), image="m:1")["InferenceService"]["spec"]["predictor"]

    for spec in (runtime, service):
        (container,) = spec["containers"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["runAsNonRoot"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
        assert spec["volumes"] == [{"name": "tmp", "emptyDir": {}}]
        variables = {each["name"]: each["value"] for each in container["env"]}
        assert variables["HOME"] == "/tmp"


def test_the_pod_may_run_as_long_as_the_wait_and_the_drain_take(tmp_path):
    folder = write_model(tmp_path)
    (folder / "settings.json").write_text('{"drain_timeout": 90.5, "drain_delay": 3}')

    plain = of("s3://b/w")["InferenceService"]["spec"]["predictor"]
    patient = of(folder, image="m:1")["InferenceService"]["spec"]["predictor"]

    # What a pod gets that says nothing, since the runtime serves other people's models too.
    assert plain["terminationGracePeriodSeconds"] == 30
    assert patient["terminationGracePeriodSeconds"] == 5 + 94 + 5
    variables = {each["name"]: each["value"] for each in patient["containers"][0]["env"]}
    assert variables["HEADRACE_DRAIN_TIMEOUT"] == "90.5"
    assert variables["HEADRACE_DRAIN_DELAY"] == "3"


def test_a_folder_of_settings_files_has_a_format_of_our_own(tmp_path):
    for name in ("a", "b"):
        write_model(tmp_path, name=name)

    found = of(tmp_path, storage_uri="gs://bucket/models", name="both")

    model = found["InferenceService"]["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "headrace"}
    named = [each["name"] for each in kserve.formats()]
    assert model["modelFormat"]["name"] in named


def test_a_version_of_mlflow_that_the_runtime_does_not_name_is_left_out(tmp_path):
    found = of(write_mlmodel(tmp_path / "wine", "4.0.1"), storage_uri="s3://b/wine")

    model = found["InferenceService"]["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "mlflow"}


def test_a_local_folder_needs_a_place_that_kserve_can_fetch_or_an_image(tmp_path):
    with pytest.raises(ConfigurationError) as refusal:
        of(write_model(tmp_path))

    message = refusal.value.message
    assert "--storage-uri (such as s3://BUCKET/m)" in message
    assert f"`headrace build {tmp_path}/m -t REGISTRY/m:1`" in message


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"storage_uri": "models:/wine/1"}, "--storage-uri: expected a URI that KServe fetches"),
        ({"storage_uri": "s3://b/w", "env": {"A": "{{.Name}}"}}, "{{ in the value of A"),
        ({"storage_uri": "s3://b/w", "name": "Wine"}, "--name: expected lower-case letters"),
        ({"storage_uri": "s3://b/w", "image": "Wine image"}, "--image: expected the name of an"),
        ({"image": "m:1", "env": {"HEADRACE_HTTP_PRT": "1"}}, "HEADRACE_HTTP_PORT"),
        ({"image": "m:1", "env": {"HEADRACE_HTTP_PORT": "0"}}, "a manifest names the ports"),
    ],
)
def test_a_wrong_flag_is_refused_by_name(tmp_path, flags, words):
    with pytest.raises(ConfigurationError) as refusal:
        of(write_model(tmp_path), **flags)

    assert words in refusal.value.message


def test_a_uri_of_mlflow_is_fetched_by_the_server_which_has_to_know_the_tracking_server():
    with pytest.raises(ConfigurationError, match="MLFLOW_TRACKING_URI=URL"):
        of("models:/wine@champion")

    tracked = of("models:/wine@champion", env={"MLFLOW_TRACKING_URI": "http://mlflow:5000"})
    secret = of("models:/wine@champion", secrets=("mlflow",))

    for service in (tracked["InferenceService"], secret["InferenceService"]):
        (container,) = service["spec"]["predictor"]["containers"]
        assert container["args"] == ["serve", "models:/wine@champion"]
        assert service["metadata"]["name"] == "wine"
        assert problems(service) == []

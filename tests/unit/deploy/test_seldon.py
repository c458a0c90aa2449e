"""Seldon's manifests. Its schemas may not be copied, so their fields are written down here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.deploy import seldon
from headrace.deploy.workload import Options
from headrace.errors import ConfigurationError
from headrace.platform_table import PLATFORMS
from support.custom import write_model

# Of `Server` and `Model`, mlops.seldon.io/v1alpha1: the fields that we write, and their types.
SERVER = {
    "serverConfig": str,
    "extraCapabilities": list,
    "replicas": int,
    "maxReplicas": int,
    "podSpec": dict,
}
MODEL = {"storageUri": str, "server": str, "requirements": list, "replicas": int, "memory": str}


def of(source: Path | str, **flags: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spec of the server, and that of the model."""
    _, (server, model) = seldon.manifests(str(source), Options(**flags))
    assert (server["kind"], model["kind"]) == ("Server", "Model")
    assert server["apiVersion"] == model["apiVersion"] == "mlops.seldon.io/v1alpha1"
    return server["spec"], model["spec"]


def test_a_server_of_the_type_mlserver_has_our_image_and_a_model_names_it(tmp_path):
    server, model = of(write_model(tmp_path), storage_uri="s3://b/m", image="hr:1", max_replicas=4)

    assert {name: type(value) for name, value in server.items()} == SERVER
    assert {name: type(value) for name, value in model.items()} == MODEL
    assert server["serverConfig"] == "mlserver"
    (container,) = server["podSpec"]["containers"]
    # Of the configuration's containers, the one of this name is replaced.
    assert container["name"] == "mlserver"
    assert container["image"] == "hr:1"
    assert model["server"] == "headrace"
    assert model["storageUri"] == "s3://b/m"


def test_the_model_asks_for_what_the_server_can(tmp_path):
    for implementation, format in [("sklearn", "sklearn"), ("onnx", "onnx"), ("m:C", "headrace")]:
        folder = tmp_path / format
        folder.mkdir()
        (folder / "model-settings.json").write_text(f'{{"implementation": "{implementation}"}}')
        server, model = of(folder, storage_uri="s3://b/m")

        assert model["requirements"] == [format]
        assert format in (*seldon.KNOWN, *server["extraCapabilities"])


def test_the_ports_are_left_to_the_configuration_whose_own_are_those_of_the_platform(tmp_path):
    server, _ = of(write_model(tmp_path), storage_uri="s3://b/m")

    (container,) = server["podSpec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["HEADRACE_PLATFORM"] == "seldon"
    assert not any("PORT" in name for name in variables)
    (expected,) = (each.expects for each in PLATFORMS if each.name == "seldon")
    assert (expected["http_port"], expected["grpc_port"]) == (9000, 9500)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "is not where Seldon can fetch it"),
        ({"storage_uri": "models:/wine/1"}, "which does not know 'models:/wine/1'"),
    ],
)
def test_a_model_has_to_be_where_seldon_can_fetch_it(tmp_path, flags, words):
    with pytest.raises(ConfigurationError) as refusal:
        of(write_model(tmp_path), **flags)

    assert words in refusal.value.message
    assert "--storage-uri" in refusal.value.message


def test_several_models_are_several_models_of_seldons(tmp_path):
    for name in ("a", "b"):
        write_model(tmp_path, name=name)

    with pytest.raises(ConfigurationError, match="holds 2 models"):
        of(tmp_path, storage_uri="s3://b/m")


def test_a_service_is_no_model_of_seldons(tmp_path):
    (tmp_path / "service.py").write_text("import headrace\nsvc = headrace.Service('sums')\n")

    with pytest.raises(ConfigurationError, match="is a service, and Seldon loads models only"):
        of(f"{tmp_path}/service.py:svc", storage_uri="s3://b/m")


@pytest.mark.parametrize("variable", ["HEADRACE_GRPC_PORT", "MLSERVER_HTTP_PORT"])
def test_a_port_that_the_agent_does_not_know_is_refused(variable, tmp_path):
    with pytest.raises(ConfigurationError, match="_port is 9999, but Seldon's agent relies on 9"):
        of(write_model(tmp_path), storage_uri="s3://b/m", env={variable: "9999"})


def test_tls_that_the_agent_does_not_speak_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="^ssl_certfile: Seldon's agent"):
        of(write_model(tmp_path), storage_uri="s3://b/m", env={"HEADRACE_SSL_CERTFILE": "/x"})


def test_an_address_that_the_agent_cannot_reach_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"host is 127\.0\.0\.1"):
        of(write_model(tmp_path), storage_uri="s3://b/m", env={"HEADRACE_HOST": "127.0.0.1"})

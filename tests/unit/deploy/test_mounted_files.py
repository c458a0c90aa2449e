"""Files of keys and certificates: every target says where the server finds them."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.cli.main import main
from headrace.deploy import mounted_files
from headrace.settings import ServerSettings
from support.custom import write_model

FILES = {
    "HEADRACE_API_KEYS_FILE": "/keys/keys.json",
    "HEADRACE_SSL_CERTFILE": "/tls/tls.crt",
    "HEADRACE_SSL_KEYFILE": "/tls/tls.key",
    "HEADRACE_SSL_CA_CERTS": "/more/tls/ca.crt",
}
PLACES = {"/keys": "m-keys", "/tls": "m-tls", "/more/tls": "m-tls-2"}


def printed(
    capsys: pytest.CaptureFixture[str], target: str, source: object, env: dict[str, str]
) -> tuple[str, str]:
    """The manifest, and what to do besides."""
    flags = [flag for pair in env.items() for flag in ("--env", "=".join(pair))]
    image = [] if target == "systemd" else ["--image", "i"]
    assert main(["deploy", target, str(source), *image, *flags]) == 0
    found = capsys.readouterr()
    return found.out, found.err


def pods(value: Any) -> list[dict[str, Any]]:
    """Everything in a manifest that has containers."""
    if isinstance(value, list):
        return [pod for each in value for pod in pods(each)]
    if not isinstance(value, dict):
        return []
    return ([value] if "containers" in value else []) + pods(list(value.values()))


def test_each_setting_that_names_such_a_file_is_known() -> None:
    named = [
        each.name
        for each in fields(ServerSettings)
        if re.match(r"file (of|with)\b|.* or a file$", each.metadata["help"])
    ]

    assert set(named) == set(mounted_files.FIELDS)


@pytest.mark.parametrize("target", ["kserve", "ray"])
def test_a_pod_has_a_secret_at_each_folder(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = printed(capsys, target, write_model(tmp_path), FILES)

    found = pods(list(yaml.safe_load_all(out)))
    assert found
    for pod in found:
        volumes = {each["name"]: each for each in pod["volumes"]}
        (container,) = pod["containers"]
        assert {
            each["mountPath"]: volumes[each["name"]]["secret"]["secretName"]
            for each in container["volumeMounts"]
            if "secret" in volumes[each["name"]]
        } == PLACES
    assert "generic m-tls --from-file=tls.crt --from-file=tls.key`" in err
    assert "generic m-keys --from-file=keys.json`" in err
    assert "generic m-tls-2 --from-file=ca.crt`" in err


def test_a_model_that_shares_its_runtime_brings_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    env = {"HEADRACE_API_KEYS_FILE": "/keys/keys.json"}
    out, _ = printed(capsys, "kserve", "s3://bucket/m", env)

    runtime, service = yaml.safe_load_all(out)
    predictor = service["spec"]["predictor"]
    (volume,), (mount,) = predictor["volumes"], predictor["model"]["volumeMounts"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], "/keys")
    assert "keys" not in json.dumps(runtime["spec"]["volumes"])


def test_compose_binds_the_folders_beside_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = printed(capsys, "compose", write_model(tmp_path), FILES)

    volumes = yaml.safe_load(out)["services"]["headrace"]["volumes"]
    assert {each["target"]: each["source"] for each in volumes} == {
        "/keys": "./keys",
        "/tls": "./tls",
        "/more/tls": "./tls-2",
    }
    assert all(each["read_only"] for each in volumes)
    assert "put tls.crt, tls.key into the folder ./tls;" in err


def test_systemd_hands_the_files_to_a_user_who_cannot_read_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {**FILES, "HEADRACE_API_KEYS_FILE": "/a b/100%"}
    out, err = printed(capsys, "systemd", write_model(tmp_path), env)

    lines = out.splitlines()
    assert "LoadCredential=ssl_keyfile:/tls/tls.key" in lines
    assert "LoadCredential=api_keys_file:/a b/100%%" in lines
    assert "Environment=HEADRACE_SSL_KEYFILE=%d/ssl_keyfile" in lines
    assert len([line for line in lines if "HEADRACE_API_KEYS_FILE" in line]) == 1
    assert "restart the unit after /a b/100% or" in err


@pytest.mark.parametrize("target", ["kserve", "ray", "compose"])
@pytest.mark.parametrize("path", ["keys.json", "/etc/keys.json", "/keys.json", "/tmp/../keys.json"])
def test_a_file_that_cannot_be_mounted_is_told(
    target: str, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path)
    (folder / "settings.json").write_text(json.dumps({"api_keys_file": path}))
    out, err = printed(capsys, target, folder, {})

    assert f"api_keys_file: '{path}' is not mounted" in err
    assert "HEADRACE_API_KEYS_FILE=/files/api_keys_file" in err
    assert "secretName" not in out


def test_a_path_that_would_add_lines_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path)
    (folder / "settings.json").write_text(json.dumps({"api_keys_file": "/k\nUser=root"}))

    assert main(["deploy", "systemd", str(folder)]) == 2
    assert "api_keys_file: expected a path" in capsys.readouterr().err


def test_seldon_whose_agent_has_no_key_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    env = "HEADRACE_API_KEYS_FILE=/keys/keys.json"

    assert main(["deploy", "seldon", "s3://bucket/m", "--env", env]) == 2
    assert "Seldon's agent, in the same pod, has no key to show" in capsys.readouterr().err


def test_without_such_files_nothing_is_mounted_and_nothing_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in ("kserve", "ray", "compose", "systemd"):
        out, err = printed(capsys, target, write_model(tmp_path, name=f"m-{target}"), {})
        assert ("Secret" in err, "secretName" in out, "LoadCredential" in out) == (False,) * 3


def test_no_two_folders_have_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path)
    env = {
        "HEADRACE_API_KEYS_FILE": "/a/keys/file",
        "HEADRACE_SSL_CERTFILE": "/b/keys-2/file",
        "HEADRACE_SSL_KEYFILE": "/c/keys/file",
    }
    manifest, _ = printed(capsys, "kserve", tmp_path, env)
    (pod,) = pods(list(yaml.safe_load_all(manifest)))
    names = [each["name"] for each in pod["volumes"] if "secret" in each]

    assert len(names) == len(set(names)) == len(env)


@pytest.mark.parametrize("folder", ["/etc/ssl/certs", "/usr/lib", "/usr/local/bin", "/etc"])
def test_no_folder_that_the_image_needs_is_hidden(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path)
    env = {"HEADRACE_API_KEYS_FILE": f"{folder}/keys.json"}
    manifest, notes = printed(capsys, "kserve", tmp_path, env)

    assert f"mountPath: {folder}" not in manifest
    assert "is not mounted" in notes

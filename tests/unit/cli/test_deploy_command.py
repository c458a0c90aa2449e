"""`headrace deploy`, as people type it."""

from __future__ import annotations

import pytest
import yaml

from headrace.cli.main import main
from support.custom import write_model

URI = ["s3://bucket/wine", "--name", "wine"]
TARGETS = {
    "kserve": ["ClusterServingRuntime", "InferenceService"],
    "seldon": ["Server", "Model"],
    "ray": ["RayService"],
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("target", TARGETS)
def test_the_manifests_and_nothing_else_are_on_standard_output(target, capsys):
    assert main(["deploy", target, *URI]) == 0

    printed = capsys.readouterr()
    assert [each["kind"] for each in yaml.safe_load_all(printed.out)] == TARGETS[target]
    assert "headrace: the image headrace:0.1.0 has to hold Headrace" in printed.err


@pytest.mark.parametrize("target", [*TARGETS, "compose", "systemd"])
def test_the_same_command_prints_the_same_bytes(target, capsys):
    printed = []
    for _ in range(2):
        assert main(["deploy", target, *URI, "--env", "B=2", "--env", "A=1"]) == 0
        printed.append(capsys.readouterr().out)

    assert printed[0] == printed[1] != ""


def test_what_is_printed_does_not_depend_on_the_variables_of_this_shell(capsys, monkeypatch):
    main(["deploy", "compose", *URI])
    before = capsys.readouterr().out
    monkeypatch.setenv("HEADRACE_HTTP_PORT", "7777")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@mlflow")

    main(["deploy", "compose", *URI])

    assert capsys.readouterr().out == before


def test_flags_are_in_the_manifest(capsys):
    flags = [
        *("--image", "registry.example.com/headrace:2", "--env", "HEADRACE_LOG_LEVEL=debug"),
        *("--env-from", "login", "--cpu", "2", "--memory", "8Gi", "--gpus", "1"),
        *("--replicas", "2", "--max-replicas", "5"),
    ]

    assert main(["deploy", "kserve", *URI, *flags]) == 0

    printed = capsys.readouterr()
    assert printed.err == ""
    runtime, service = yaml.safe_load_all(printed.out)
    assert runtime["spec"]["containers"][0]["image"] == "registry.example.com/headrace:2"
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 5)
    model = predictor["model"]
    assert model["env"] == [{"name": "HEADRACE_LOG_LEVEL", "value": "debug"}]
    assert model["envFrom"] == [{"secretRef": {"name": "login"}}]
    amounts = {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": 1}
    assert model["resources"] == {"requests": amounts, "limits": amounts}


def test_the_command_that_makes_the_image_is_named(tmp_path, capsys):
    folder = write_model(tmp_path)

    assert main(["deploy", "compose", str(folder)]) == 0

    assert f"make the image with `headrace build {folder} -t m`" in capsys.readouterr().err


def test_the_command_that_makes_the_image_can_be_pasted_whatever_the_folder_is_called(
    tmp_path, capsys
):
    folder = tmp_path / "my $models"
    write_model(folder, name="a")
    write_model(folder, name="b")

    assert main(["deploy", "compose", str(folder)]) == 0

    assert f"`headrace build '{folder}' -t my-models`" in capsys.readouterr().err


def test_a_chart_is_written_to_a_new_folder(tmp_path, capsys):
    chart = tmp_path / "chart"

    assert main(["deploy", "helm", *URI, "-o", str(chart)]) == 0

    assert capsys.readouterr().out == f"wrote {chart}/values.yaml\n"
    assert yaml.safe_load((chart / "Chart.yaml").read_text())["name"] == "wine"
    assert (chart / "templates/deployment.yaml").is_file()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["kserve", "--replicas", "0"], "--replicas: expected a whole number from 1"),
        (["kserve", "--replicas", "3", "--max-replicas", "2"], "--max-replicas: expected at least"),
        (["kserve", "--gpus", "one"], "--gpus: expected a whole number from 0"),
        (["kserve", "--runtime", "My Runtime"], "--runtime: expected lower-case letters"),
        (["seldon", "--server", "a_b"], "--server: expected lower-case letters"),
        (["kserve", "--cpu", "many"], "--cpu: expected a number of cores"),
        (["kserve", "--memory", "4GB"], "--memory: expected an amount"),
        (["kserve", "--env", "A"], "--env: expected NAME=VALUE, got 'A'"),
        (["kserve", "--env-from", "My Secret"], "--env-from: expected the name of a Secret"),
        (["ray", "--env", "HEADRACE_LOG_LEVL=debug"], "did you mean 'HEADRACE_LOG_LEVEL'?"),
        (["systemd", "--program", "headrace"], "--program: expected an absolute path"),
    ],
)
def test_a_wrong_flag_is_refused_by_name_and_nothing_is_printed(flags, words, capsys):
    target, *rest = flags

    assert main(["deploy", target, *URI, *rest]) == 2

    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kserv", "x"], "there is no word 'kserv'; did you mean 'kserve'?"),
        (["helm", "x"], "the following arguments are required: -o/--output"),
        (["ray", "x", "--storage-uri", "s3://b"], "there is no flag '--storage-uri'"),
        (["systemd", "x", "--image", "a"], "there is no flag '--image'"),
    ],
)
def test_a_mistake_is_answered_in_one_line(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["deploy", *words])

    assert message in capsys.readouterr().err

"""The command that compares servers: its flags, and what it leaves out."""

from __future__ import annotations

import sys

import pytest
from benchmarks import environments
from benchmarks.peers import __main__ as command
from benchmarks.peers.scenarios import GROUPS


def test_a_group_that_does_not_exist_is_refused_with_those_that_do(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks.peers", "--only", "mosec,tritn"])

    with pytest.raises(SystemExit):
        command.arguments()

    assert f"no group tritn; there are {', '.join(GROUPS)}" in capsys.readouterr().err


def test_groups_may_stand_apart(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks.peers", "--only", "mosec, triton"])

    assert command.arguments().only == ["mosec", "triton"]


def test_a_group_without_any_other_server_is_not_measured_again():
    assert command.all_missing("mosec", dict.fromkeys(GROUPS["mosec"][0][1:], "no network"))
    assert not command.all_missing("mosec", {"mosec": "no network"})
    assert not command.all_missing("grpc", {"triton": "no network", "mlserver": "no network"})


def test_a_server_whose_environment_cannot_be_made_is_left_out_with_the_reason(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))

    pythons, unprepared = command.prepare(["mosec", "uvicorn"])

    assert list(pythons) == ["uvicorn"]
    assert "127.0.0.1:9" in unprepared["mosec"]


def test_every_environment_has_the_packages_of_the_model():
    wanted = {name.split("==")[0] for name in environments.model_requirements()}

    for peer in command.PEERS:
        installed = {name_of(each) for each in peer.requirements}
        assert not installed or wanted <= installed, peer.name


def name_of(requirement: str) -> str:
    return requirement.partition("==")[0].partition("<")[0]

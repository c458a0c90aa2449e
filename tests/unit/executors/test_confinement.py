"""What workers are given: variables by name, and flags for what they give up."""

from __future__ import annotations

import os

import pytest

from headrace.errors import ConfigurationError
from headrace.executors import confinement
from headrace.executors.confinement import Confinement
from headrace.settings import ServerSettings

ENVIRON = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "OMP_NUM_THREADS": "1",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "OPENAI_API_KEY": "openai",
    "HEADRACE_MODEL_EXTRA": "{}",
    "HEADRACE_HOME": "/srv",
    "HEADRACE_API_KEYS_FILE": "/run/keys",
    "HEADRACE_MLFLOW_WEBHOOK_SECRET_FILE": "/run/webhook",
    "MLSERVER_JWT_TOKEN": "jwt",
}
OWN = {"HEADRACE_API_KEYS_FILE", "HEADRACE_MLFLOW_WEBHOOK_SECRET_FILE", "MLSERVER_JWT_TOKEN"}
NOT_USUAL = {"AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"}


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, OWN),
        ({"worker_env": ("PATH",)}, OWN | NOT_USUAL),
        ({"worker_env": ("AWS_*",)}, OWN | {"OPENAI_API_KEY"}),
        ({"worker_env": ("HEADRACE_*",)}, OWN | NOT_USUAL),
        ({"trust": "formats"}, OWN | NOT_USUAL),
        ({"trust": "formats", "worker_env": ("OPENAI_API_KEY",)}, OWN | {"AWS_SECRET_ACCESS_KEY"}),
    ],
    ids=["by default", "no more", "a pattern", "never its own", "formats", "formats and a name"],
)
def test_a_worker_gets_no_variables_but_these(settings: dict[str, object], kept: set[str]) -> None:
    given = Confinement.of(ServerSettings(**settings)).variables(ENVIRON)  # type: ignore[arg-type]

    assert ENVIRON.keys() - given.keys() == kept


def test_a_variable_that_is_not_set_is_told_and_a_pattern_without_a_match_is_not() -> None:
    settings = ServerSettings(worker_env=("PATH", "OPENAI_KEY", "AZURE_*"))

    assert confinement.unset(settings, ENVIRON) == ["OPENAI_KEY"]


def test_workers_that_do_not_exist_cannot_be_confined() -> None:
    settings = ServerSettings(parallel_workers=0, worker_network="none")

    with pytest.raises(ConfigurationError, match="--parallel-workers is 0"):
        confinement.check(settings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_only_root_has_workers_of_another_user() -> None:
    with pytest.raises(ConfigurationError, match="--worker-uid needs a server that root"):
        confinement.check(ServerSettings(worker_uid=1234))

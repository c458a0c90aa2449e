"""Tests with a client of frames run twice: TLS changes nothing of what they claim."""

from __future__ import annotations

import pytest

from support import http2_client
from support.certificates import Secured, secured

BOTH = (
    *("test_http2_connection", "test_http2_limits", "test_large_messages", "test_direct_calls"),
    "test_restarted_server",
)


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    found = secured(tmp_path_factory.mktemp("certificates"))
    # Without it, grpcio hangs up.
    found.context.set_alpn_protocols(["h2"])
    return found


@pytest.fixture(autouse=True)
def over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test runs over, plain TCP or TLS."""
    if getattr(request, "param", "") == "TLS":
        monkeypatch.setattr(http2_client, "SECURED", request.getfixturevalue("certified"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = metafunc.definition.iter_markers("parametrize")
    speaks_both = metafunc.module.__name__.rpartition(".")[2] in BOTH
    if speaks_both and not any(mark.args[0] == "over" for mark in marked):
        metafunc.parametrize("over", ["TCP", "TLS"], indirect=True)

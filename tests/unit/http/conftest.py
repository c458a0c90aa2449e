"""Tests with raw clients run twice: TLS changes nothing of what they claim."""

from __future__ import annotations

import pytest
import raw_http

from support.certificates import Secured, secured


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    return secured(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test runs over, plain TCP or TLS."""
    if getattr(request, "param", "") == "TLS":
        monkeypatch.setattr(raw_http, "SECURED", request.getfixturevalue("certified"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = metafunc.definition.iter_markers("parametrize")
    is_raw = getattr(metafunc.module, "serve", None) is raw_http.serve
    # A client of TLS that ends its own side has left.
    is_raw = is_raw and not metafunc.module.__name__.endswith("test_half_closed")
    if is_raw and not any(mark.args[0] == "over" for mark in marked):
        metafunc.parametrize("over", ["TCP", "TLS"], indirect=True)

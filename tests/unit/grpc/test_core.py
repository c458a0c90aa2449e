"""The native core serves gRPC only where it is asked for."""

from __future__ import annotations

import pytest

from headrace.errors import ConfigurationError
from headrace.grpc import core
from headrace.settings import ServerSettings


def test_grpcio_is_the_default_even_where_the_native_core_is_installed() -> None:
    pytest.importorskip(core.NATIVE)

    assert core.is_native(ServerSettings()) is False
    assert core.is_native(ServerSettings(native_grpc=True)) is True


def test_what_is_not_installed_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "NATIVE", "no_such_core")

    with pytest.raises(ConfigurationError, match=r"pip install 'headrace\[native-grpc\]'"):
        core.is_native(ServerSettings(native_grpc=True))

"""Metadata and readiness are the same over every transport."""

from __future__ import annotations

import pytest

from conformance.transports import Refused

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("model", ["echo", "double"])
def test_a_models_metadata_is_the_same(model, transport, reference):
    metadata = transport.metadata(model)

    assert metadata == reference.metadata(model)
    assert metadata["name"] == model


def test_a_models_metadata_is_what_its_settings_say(transport):
    metadata = transport.metadata("echo")

    assert (metadata["platform"], metadata["versions"]) == ("mirror", ["3"])
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]


def test_the_servers_metadata_is_the_same(transport, reference):
    metadata = transport.server_metadata()

    assert metadata == reference.server_metadata()
    assert metadata["name"] == "headrace"


def test_server_and_model_are_ready(transport):
    assert transport.ready() is True
    assert transport.model_ready("echo") is True


@pytest.mark.parametrize("method", ["metadata", "model_ready"])
def test_an_unknown_model_is_not_found(method, transport):
    with pytest.raises(Refused) as refused:
        getattr(transport, method)("nobody")

    assert refused.value.kinds == {"not_found"}
    assert refused.value.message == "model 'nobody' not found"

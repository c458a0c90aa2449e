"""Metadata and readiness are the same through every door."""

from __future__ import annotations

import pytest

from conformance.doors import Refused

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("model", ["echo", "double"])
def test_a_models_metadata_is_the_same(model, door, reference):
    told = door.metadata(model)

    assert told == reference.metadata(model)
    assert told["name"] == model


def test_a_models_metadata_is_what_its_settings_say(door):
    told = door.metadata("echo")

    assert (told["platform"], told["versions"]) == ("mirror", ["3"])
    assert told["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]


def test_the_servers_metadata_is_the_same(door, reference):
    told = door.server_metadata()

    assert told == reference.server_metadata()
    assert told["name"] == "headrace"


def test_server_and_model_are_ready(door):
    assert door.ready() is True
    assert door.model_ready("echo") is True


@pytest.mark.parametrize("question", ["metadata", "model_ready"])
def test_an_unknown_model_is_not_found(question, door):
    with pytest.raises(Refused) as refused:
        getattr(door, question)("nobody")

    assert refused.value.kinds == {"not_found"}
    assert refused.value.message == "model 'nobody' not found"

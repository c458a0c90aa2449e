"""Questions about models, and loading and unloading them, with a fake executor."""

from __future__ import annotations

import asyncio

import pytest

from headrace.dataplane import DataPlane
from headrace.errors import (
    Forbidden,
    ModelUnavailable,
    NotFound,
    ShuttingDown,
    Unimplemented,
)
from headrace.protocol.messages import ModelMetadata, TensorMetadata
from headrace.settings import ModelSettings, ServerSettings
from support.world import World, in_world, model


async def plane(world: World, *models: ModelSettings, host: str = "127.0.0.1") -> DataPlane:
    world.disk = list(models)
    await world.repository.load_all(world.disk)
    found = DataPlane(world.repository, ServerSettings(host=host))
    found.loaded = True
    return found


@in_world
async def test_a_server_is_ready_once_it_has_loaded_and_until_it_drains(world: World) -> None:
    found = await plane(world, model())
    ready = [found.is_ready()]
    for attribute, value in (("loaded", False), ("loaded", True), ("draining", True)):
        setattr(found, attribute, value)
        ready.append(found.is_ready())

    assert ready == [True, False, True, False]


@in_world
async def test_a_model_that_did_not_load_is_named_with_its_reason(world: World) -> None:
    found = await plane(world, model("a"), model("b", invalid=True))

    assert not found.is_ready()
    assert found.not_ready() == {"b": "it never loads"}
    with pytest.raises(ModelUnavailable, match="'b' is not ready: it never loads"):
        found.require_ready("b")
    with pytest.raises(ModelUnavailable, match="'b' is not ready: it never loads"):
        found.model_metadata("b")
    assert not found.may_recover()
    assert (found.model_ready("a"), found.model_ready("b")) == (True, False)


@in_world
async def test_a_model_whose_worker_is_down_is_not_ready(world: World) -> None:
    found = await plane(world, model())
    world.executor.loaded.clear()

    assert (found.is_ready(), found.model_ready("m")) == (False, False)
    assert found.not_ready() == {"m": "it is down"}
    assert found.index() == [
        {"name": "m", "version": "", "state": "UNAVAILABLE", "reason": "it is down"}
    ]


@in_world
async def test_an_unknown_model_or_version_is_not_found(world: World) -> None:
    found = await plane(world, model(version="1"))

    for ask in (found.model_ready, found.require_ready, found.model_metadata, found.get):
        with pytest.raises(NotFound):
            ask("nobody")
        with pytest.raises(NotFound):
            ask("m", "2")


@in_world
async def test_the_index_has_every_version_or_those_that_are_ready(world: World) -> None:
    found = await plane(world, model("b", invalid=True), model("a", "2"), model("a", "1"))
    rows = [(row["name"], row["version"], row["state"], row["reason"]) for row in found.index()]

    assert rows == [
        ("a", "1", "READY", ""),
        ("a", "2", "READY", ""),
        ("b", "", "UNAVAILABLE", "it never loads"),
    ]
    assert [row["name"] for row in found.index(ready=True)] == ["a", "a"]
    assert (found.names(), found.versions("a")) == (["a", "b"], ["1", "2"])


@in_world
async def test_metadata_of_a_model_has_its_versions_and_its_tensors(world: World) -> None:
    found = await plane(world, model(version="1"), model(version="2"))
    found.get("m").model_metadata = ModelMetadata(
        platform="sklearn",
        inputs=[TensorMetadata("x", "FP64", [-1], {"content_type": "np"})],
        outputs=[TensorMetadata("y", "INT64", [-1])],
    )

    assert found.model_metadata("m") == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "sklearn",
        "inputs": [
            {"name": "x", "datatype": "FP64", "shape": [-1], "parameters": {"content_type": "np"}}
        ],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
    }


@in_world
async def test_a_model_is_unloaded_and_loaded_again(world: World) -> None:
    found = await plane(world, model())
    await found.unload("m")
    unloaded = found.model_ready("m"), found.is_ready()
    await found.load("m")

    # Nobody waits for a model that was unloaded on request.
    assert unloaded == (False, True)
    assert found.model_ready("m")


@in_world
async def test_settings_in_a_request_to_load_are_refused(world: World) -> None:
    found = await plane(world, model())

    with pytest.raises(Unimplemented, match="parameters"):
        await found.load("m", {"config": "{}"})


@in_world
async def test_a_server_that_drains_loads_nothing(world: World) -> None:
    found = await plane(world, model())
    found.draining = True

    with pytest.raises(ShuttingDown):
        await found.unload("m")


@pytest.mark.parametrize(
    ("host", "flag", "allowed"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("localhost", None, True),
        ("0.0.0.0", None, False),
        ("models.example", None, False),
        ("0.0.0.0", True, True),
        ("127.0.0.1", False, False),
    ],
)
def test_models_may_be_changed_from_this_machine_unless_a_flag_says_otherwise(
    host: str, flag: bool | None, allowed: bool
) -> None:
    settings = ServerSettings(host=host, allow_repository_api=flag)

    async def body() -> None:
        found = DataPlane(World().repository, settings)
        # There is no such model, which only those who may ask find out.
        with pytest.raises(NotFound if allowed else Forbidden):
            await found.unload("nobody")

    asyncio.run(body())

"""Which model answers a request that names none."""

from __future__ import annotations

import asyncio

import pytest

from headrace.adapters.mlflow_scoring import MLflowScoring
from headrace.adapters.raw import Raw
from headrace.dataplane.resolve import Resolver
from headrace.errors import InvalidInput, ModelNotReady, NotFound
from headrace.protocol.messages import PAYLOAD_TYPE, ModelMetadata
from headrace.settings import ModelSettings
from support.world import World, in_world, model

PLUGIN = ModelMetadata(parameters={PAYLOAD_TYPE: "image/png"})
LOGGED = ModelMetadata(decodes_scoring=True)


async def served(world: World, **models: ModelMetadata) -> Resolver:
    await world.repository.load_all([model(name) for name in models])
    for name, metadata in models.items():
        world.repository.get(name).model_metadata = metadata
    return Resolver(world.repository)


@in_world
async def test_a_model_and_a_plugin_are_each_the_only_one_of_their_protocol(world: World) -> None:
    resolver = await served(world, wine=ModelMetadata(), picture=PLUGIN)

    assert resolver.find(None, None, MLflowScoring()).name == "wine"
    assert resolver.find(None, None, Raw()).name == "picture"


@in_world
async def test_mlflows_route_prefers_the_one_mlflow_model_among_others(world: World) -> None:
    resolver = await served(world, a=ModelMetadata(), logged=LOGGED, b=ModelMetadata())

    assert resolver.find(None, None, MLflowScoring()).name == "logged"


@in_world
async def test_no_other_model_answers_for_an_mlflow_model_that_failed(world: World) -> None:
    logged = ModelSettings("logged", "mlflow", extra={"broken": True})
    await world.repository.load_all([model("a"), logged])

    with pytest.raises(ModelNotReady, match="'logged' is not ready: it is broken"):
        Resolver(world.repository).find(None, None, MLflowScoring())
    assert Resolver(world.repository).find("a", None, MLflowScoring()).name == "a"


@in_world
async def test_no_other_model_answers_for_an_mlflow_model_that_is_loading(world: World) -> None:
    await world.repository.load_all([model("a")])
    resolver = Resolver(world.repository)
    world.executor.may_load.clear()
    logged = ModelSettings("logged", "mlserver_mlflow.MLflowRuntime")
    loading = asyncio.create_task(world.repository.load_all([logged]))
    while not world.executor.loading:
        await asyncio.sleep(0)

    with pytest.raises(ModelNotReady, match="'logged' is not ready"):
        resolver.find(None, None, MLflowScoring())
    world.executor.may_load.set()
    await loading


@in_world
async def test_another_model_answers_once_the_mlflow_model_is_not_wanted(world: World) -> None:
    await world.repository.load_all([model("a"), ModelSettings("logged", "mlflow")])
    await world.repository.unload("logged")

    assert Resolver(world.repository).find(None, None, MLflowScoring()).name == "a"


@in_world
async def test_an_mlflow_version_that_failed_does_not_hide_the_one_that_answers(
    world: World,
) -> None:
    versions = {"1": {}, "2": {"broken": True}}
    logged = [ModelSettings("m", "mlflow", version=v, extra=e) for v, e in versions.items()]
    await world.repository.load_all(logged)

    assert Resolver(world.repository).find(None, None, MLflowScoring()).version == "1"


@in_world
async def test_an_ambiguous_request_is_refused_with_the_models_and_the_route(world: World) -> None:
    resolver = await served(world, a=LOGGED, b=LOGGED)

    with pytest.raises(InvalidInput, match=r"'a', 'b'.*/v2/models/{name}/invocations"):
        resolver.find(None, None, MLflowScoring())


@in_world
async def test_no_model_of_the_protocol_is_not_found(world: World) -> None:
    resolver = await served(world, wine=ModelMetadata())

    with pytest.raises(NotFound, match="no plugin is served"):
        resolver.find(None, None, Raw())


@in_world
async def test_a_model_that_has_not_loaded_may_be_the_one(world: World) -> None:
    await world.repository.load_all([model(broken=True)])

    with pytest.raises(ModelNotReady, match="it is broken"):
        Resolver(world.repository).find(None, None, Raw())


@in_world
async def test_versions_of_one_model_are_one(world: World) -> None:
    await world.repository.load_all([model(version="1"), model(version="2")])

    assert Resolver(world.repository).find(None, None, MLflowScoring()).version == "2"

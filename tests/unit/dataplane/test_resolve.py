"""Which model answers a request that names none."""

from __future__ import annotations

import pytest

from headrace.adapters.mlflow_scoring import MLflowScoring
from headrace.adapters.raw import Raw
from headrace.dataplane.resolve import Resolver
from headrace.errors import InvalidInput, ModelNotReady, NotFound
from headrace.protocol.messages import PAYLOAD_TYPE, ModelMetadata
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

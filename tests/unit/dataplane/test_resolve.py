"""Which model is meant by a request that names none."""

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
async def test_a_plugin_beside_one_model_leaves_it_the_only_one_to_score(world: World) -> None:
    resolver = await served(world, wine=ModelMetadata(), picture=PLUGIN)

    assert resolver.find(None, None, MLflowScoring()).name == "wine"
    assert resolver.find(None, None, Raw()).name == "picture"


@in_world
async def test_the_one_mlflow_model_among_others_is_meant_by_mlflows_route(world: World) -> None:
    resolver = await served(world, a=ModelMetadata(), logged=LOGGED, b=ModelMetadata())

    assert resolver.find(None, None, MLflowScoring()).name == "logged"


@in_world
async def test_several_that_could_be_meant_are_named_and_so_is_where_to_ask(world: World) -> None:
    resolver = await served(world, a=LOGGED, b=LOGGED)

    with pytest.raises(InvalidInput, match=r"'a', 'b'.*/v2/models/{name}/invocations"):
        resolver.find(None, None, MLflowScoring())


@in_world
async def test_nothing_that_speaks_it_is_not_found(world: World) -> None:
    resolver = await served(world, wine=ModelMetadata())

    with pytest.raises(NotFound, match="no plugin is served"):
        resolver.find(None, None, Raw())


@in_world
async def test_a_model_that_is_still_to_be_loaded_may_be_the_one(world: World) -> None:
    await world.repository.load_all([model(broken=True)])

    with pytest.raises(ModelNotReady, match="it is broken"):
        Resolver(world.repository).find(None, None, Raw())


@in_world
async def test_versions_of_one_model_are_one(world: World) -> None:
    await world.repository.load_all([model(version="1"), model(version="2")])

    assert Resolver(world.repository).find(None, None, MLflowScoring()).version == "2"

"""Which version of a followed model answers a call."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from headrace.adapters.open_inference import OpenInference
from headrace.dataplane import Call
from headrace.dataplane.resolve import Resolver
from headrace.errors import NotFound
from headrace.rollouts.traffic import Traffic
from headrace.settings import ModelSettings
from headrace.sources.follow import Followed
from support.world import World, in_world, model

PROTOCOL = OpenInference()


class Asked(Call):
    """A call with a JSON body whose members are these."""

    members: dict[str, str] = {}

    def member(self, path: str) -> str | None:
        return self.members.get(path)


def a_call(members: dict[str, str] | None = None, **headers: str) -> Asked:
    call = Asked("p", "r", "1", None, {key.replace("_", "-"): headers[key] for key in headers})
    call.members = members or {}
    return call


async def divided(world: World, percent: float = 10, **canary: Any) -> tuple[Resolver, Traffic]:
    """A model with a stable version 1 and a canary 2 with this part of the requests."""
    settings = {"alias": "@challenger", "percent": percent, **canary}
    follow = {"canary": settings, "rollback": {"min_requests": 1000}}
    followed = Followed(ModelSettings("m", "mlflow", uri="models:/m@champion", follow=follow))
    traffic = Traffic(followed, lambda reason: None)
    await world.repository.load_all([model("m", "1")])
    traffic.stable = world.repository.get("m", "1")
    world.repository.prefer(traffic.stable)
    traffic.start_canary(await world.repository.add(model("m", "2")), percent, 0)
    return Resolver(world.repository, {"m": traffic}), traffic


@in_world
async def test_a_canary_gets_exactly_its_part(world: World) -> None:
    resolver, _ = await divided(world)
    seen = Counter(resolver.find("m", None, PROTOCOL, a_call()).version for _ in range(1000))
    assert abs(seen["2"] - 100) <= 2


@in_world
async def test_a_call_says_which_version_it_was_given(world: World) -> None:
    resolver, traffic = await divided(world, 100)
    call = a_call()
    found = resolver.find(None, None, PROTOCOL, call)
    assert (found.version, call.given, call.for_canary, call.traffic) == ("2", found, True, traffic)


@in_world
async def test_whoever_names_a_version_gets_it(world: World) -> None:
    resolver, _ = await divided(world, 100)
    by_header = a_call(x_model_version="1")
    assert resolver.find("m", None, PROTOCOL, by_header).version == "1"
    assert (by_header.for_canary, by_header.given) == (False, None)
    assert resolver.find("m", "1", PROTOCOL, a_call()).version == "1"
    assert resolver.find("m", "1", PROTOCOL, a_call(x_model_version="2")).version == "1"
    assert resolver.get("m", "1", a_call()).version == "1"
    with pytest.raises(NotFound, match="model 'm' has no version '7'"):
        resolver.find("m", None, PROTOCOL, a_call(x_model_version="7"))


@in_world
async def test_questions_without_a_call_are_about_the_stable_version(world: World) -> None:
    resolver, _ = await divided(world, 100)
    assert resolver.find("m", None, PROTOCOL).version == "1"


@pytest.mark.parametrize(
    ("sticky", "alice", "bob"),
    [
        ({"header": "X-User"}, a_call(x_user="alice"), a_call(x_user="bob")),
        (
            {"field": "parameters.user"},
            a_call({"parameters.user": "alice"}),
            a_call({"parameters.user": "bob"}),
        ),
    ],
)
@in_world
async def test_a_caller_stays_at_one_version(
    world: World, sticky: dict[str, str], alice: Call, bob: Call
) -> None:
    resolver, traffic = await divided(world, 50, sticky=sticky)
    for call, expected in ((alice, "1"), (bob, "2")):
        assert {resolver.find("m", None, PROTOCOL, call).version for _ in range(20)} == {expected}
    seen = Counter(resolver.find("m", None, PROTOCOL, a_call()).version for _ in range(20))
    assert abs(seen["2"] - 10) <= 1, "those who do not say who they are, are spaced evenly"
    assert traffic.deciding_member == sticky.get("field", "")


@in_world
async def test_those_who_leave_their_name_empty_are_not_one_caller(world: World) -> None:
    resolver, _ = await divided(world, 50, sticky={"header": "X-User"})
    seen = Counter(resolver.find("m", None, PROTOCOL, a_call(x_user="")).version for _ in range(20))
    assert abs(seen["2"] - 10) <= 1


@in_world
async def test_a_canary_whose_worker_is_down_gets_nothing_and_that_counts(world: World) -> None:
    resolver, traffic = await divided(world, 100)
    assert traffic.canary is not None
    del world.executor.loaded[traffic.canary.key]
    call = a_call()
    assert resolver.find("m", None, PROTOCOL, call).version == "1"
    assert traffic.failures == {("2", "model_not_ready"): 1}


@in_world
async def test_a_canary_that_was_unloaded_gets_nothing_and_is_not_to_blame(world: World) -> None:
    resolver, traffic = await divided(world, 100)
    await world.repository.drop("m", "2")
    assert resolver.find("m", None, PROTOCOL, a_call()).version == "1"
    assert not traffic.failures


@in_world
async def test_after_its_end_a_canary_gets_nothing(world: World) -> None:
    resolver, traffic = await divided(world, 100)
    traffic.end_canary()
    assert resolver.find("m", None, PROTOCOL, a_call()).version == "1"

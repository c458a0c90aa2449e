"""A call on its way to a model and back, and how it ends."""

from __future__ import annotations

import logging
from itertools import permutations

import pytest

from headrace.dataplane import Call, Calls, as_error
from headrace.dataplane.observers.observer import Observer
from headrace.errors import Forbidden, HeadraceError, InvalidInput
from support.world import World, in_world, model, request

ENDS = ("answered", "refused", "left")


class Notes(Observer):
    """Notes each hook with the status and size that the call has by then."""

    def __init__(self, noted: list[object], name: str = "") -> None:
        self._noted, self._name = noted, name

    def _note(self, hook: str, call: Call) -> None:
        self._noted.append((self._name + hook, call.status, call.sent))

    def admit(self, call: Call) -> None:
        self._note("admit", call)

    def decoded(self, call: Call) -> None:
        self._note("decoded", call)

    def answered(self, call: Call) -> None:
        self._note("answered", call)

    def refused(self, call: Call, error: HeadraceError) -> None:
        self._note(f"refused {error.kind}", call)

    def left(self, call: Call) -> None:
        self._note("left", call)


class Guard(Observer):
    """Refuses every call, before or after its body is decoded."""

    def __init__(self, when: str) -> None:
        self._when = when

    def admit(self, call: Call) -> None:
        self._refuse("admit")

    def decoded(self, call: Call) -> None:
        self._refuse("decoded")

    def _refuse(self, hook: str) -> None:
        if hook == self._when:
            raise Forbidden("not you")


def a_call() -> Call:
    return Call("open_inference", "/v2/models/{name}/infer", "id-1")


def end(calls: Calls, call: Call, how: str) -> None:
    if how == "answered":
        calls.answered(call, 200, 9)
    elif how == "refused":
        calls.refused(call, InvalidInput("x"), 400, 7)
    else:
        calls.left(call, 499)


@pytest.mark.parametrize(("first", "second"), [*permutations(ENDS, 2)])
def test_a_call_ends_once_with_the_first_end(first: str, second: str) -> None:
    noted: list[object] = []
    calls, call = Calls((Notes(noted),)), a_call()
    end(calls, call, first)
    end(calls, call, second)
    end(calls, call, first)

    expected = {
        "answered": ("answered", 200, 9),
        "refused": ("refused invalid_argument", 400, 7),
        "left": ("left", 499, 0),
    }
    assert noted == [expected[first]]


def test_observers_admit_in_order_and_the_first_who_refuses_is_the_last_who_is_asked() -> None:
    noted: list[object] = []
    observers = (Notes(noted, "a "), Guard("admit"), Notes(noted, "b "))
    with pytest.raises(Forbidden, match="not you"):
        Calls(observers).admit(a_call())

    assert noted == [("a admit", 0, 0)]


@in_world
async def test_a_request_is_submitted_after_observers_have_seen_its_model(world: World) -> None:
    await world.repository.load_all([model()])
    noted: list[object] = []
    calls, call = Calls((Notes(noted),)), a_call()
    served = world.repository.get("m")
    response = await calls.submit(call, served, request(), None)

    assert (call.model, noted) == (served, [("decoded", 0, 0)])
    assert (response.parameters or {})["key"] == served.key


@in_world
async def test_a_request_that_an_observer_refuses_does_not_reach_the_model(world: World) -> None:
    await world.repository.load_all([model()])
    served, calls = world.repository.get("m"), Calls((Guard("decoded"),))
    with pytest.raises(Forbidden):
        calls.submit(a_call(), served, request(), None)
    with pytest.raises(Forbidden):
        [piece async for piece in calls.stream(a_call(), served, request(), None)]

    assert served.batcher is not None
    assert (served.metrics.batching.rows, served.streams) == (0, 0)


def test_a_usable_id_is_kept_and_any_other_is_replaced() -> None:
    calls = Calls()
    made = [calls.request_id(given) for given in (None, "", "a b", "x" * 257, "\u00e9")]

    assert calls.request_id("mine") == "mine"
    assert len(set(made)) == 5
    assert all(id.isascii() and id not in ("", "a b") for id in made)


def test_an_error_that_nobody_raised_on_purpose_is_logged_and_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = InvalidInput("x is missing")
    with caplog.at_level(logging.ERROR):
        error = as_error(KeyError("secret"), "id-1")

    assert as_error(known, "id-1") is known
    assert (error.kind, "secret" in error.message) == ("internal", False)
    assert [vars(record)["request_id"] for record in caplog.records] == ["id-1"]

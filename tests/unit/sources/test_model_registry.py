"""Asking the registry through a child process, which may end or write rubbish."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from headrace.errors import InvalidModel, LoadFailed
from headrace.sources.model_registry import Registered, Registry

ALIASES = {f"alias {number}": "1" for number in range(5000)}
GOOD = {"name": "m", "aliases": ALIASES, "stages": {}, "latest": "1"}


def child(*answers: str) -> tuple[str, ...]:
    """A process that says that it has started, and gives each of its questions an answer."""
    lines = "".join(f"input(); print({answer!r}, flush=True); " for answer in answers)
    return sys.executable, "-c", f"print(flush=True); {lines}"


def looked_up(command: tuple[str, ...], times: int = 1) -> list[Registered | str]:
    async def main() -> list[Registered | str]:
        registry = Registry(command)
        found: list[Registered | str] = []
        for _ in range(times):
            try:
                found.append(await registry.look("m"))
            except LoadFailed as failed:
                found.append(failed.message)
        await registry.close()
        return found

    return asyncio.run(main())


def test_a_model_with_thousands_of_aliases_is_read() -> None:
    tags = {"owner": "me"}
    assert looked_up(child(json.dumps({**GOOD, "tags": tags}))) == [
        Registered(ALIASES, {}, "1", tags)
    ]


@pytest.mark.parametrize(
    "command",
    [child("rubbish", json.dumps(GOOD)), child(), (sys.executable, "-c", "")],
    ids=["writes rubbish", "ends after the start", "ends at once"],
)
def test_a_child_that_does_not_answer_is_replaced_by_another(command: tuple[str, ...]) -> None:
    found = looked_up(command, times=2)

    assert all("has ended" in str(each) for each in found)


def test_a_tag_that_the_registry_refuses_is_an_error_and_one_that_it_takes_is_none() -> None:
    refused = json.dumps({"name": "m", "tag": "t", "trouble": "no permission", "permanent": True})
    taken = json.dumps({"name": "m", "tag": "t"})

    async def main() -> str:
        registry = Registry(child(refused, taken))
        try:
            with pytest.raises(InvalidModel, match="no permission"):
                await registry.tag("m", "t", "1")
            await registry.tag("m", "t", "2")
        finally:
            await registry.close()
        return "taken"

    assert asyncio.run(main()) == "taken"


def test_what_is_asked_for_at_one_time_is_one_question() -> None:
    reply = "import json; print(flush=True)\nfor each in map(json.loads, iter(input, '')):\n"
    reply += "  for name in each: print(json.dumps(dict(name=name, aliases={}, stages={}, "
    reply += "latest=str(len(each)))), flush=True)"

    async def main() -> list[Registered]:
        registry = Registry((sys.executable, "-c", reply))
        await registry.look("first")
        found = await asyncio.gather(*(registry.look(name) for name in "abc"))
        await registry.close()
        return found

    assert asyncio.run(main()) == [Registered({}, {}, "3")] * 3

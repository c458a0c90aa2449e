"""Runs the calls of a script in a client's own environment, and prints how each ended."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any


def run(area: str, calls: list[Callable[..., Any]], *arguments: Any) -> None:
    """Each call gets the arguments, and fails if it raises. One line of JSON a call."""
    for call in calls:
        found = {"area": area, "id": f"{area}: {_words(call)}", "reason": ""}
        try:
            result = call(*arguments)
            if inspect.isawaitable(result):
                asyncio.run(_await(result))
        except Exception as error:
            found["reason"] = f"{type(error).__name__}: {error}"
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


async def _await(result: Any) -> Any:
    return await asyncio.wait_for(result, 60)


def _words(call: Any) -> str:
    return str(call.__name__).strip("_").replace("_", " ")

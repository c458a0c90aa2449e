"""The start and stop of mounted applications."""

from __future__ import annotations

import asyncio
import sys

import pytest

from headrace.errors import LoadFailed
from headrace.runtimes.service.lifespans import Lifespans


def test_an_application_that_ends_the_process_as_it_starts_is_refused():
    async def app(scope, receive, send):
        await receive()
        sys.exit(3)

    with pytest.raises(LoadFailed, match="application at /app did not start: it raised SystemExit"):
        asyncio.run(Lifespans.started({"/app": app}))


def test_an_application_that_raises_at_its_first_event_has_no_lifespan():
    async def app(scope, receive, send):
        raise ValueError(scope["type"])

    assert asyncio.run(Lifespans.started({"/app": app})).states == {"/app": {}}

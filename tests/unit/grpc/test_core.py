"""The server's own HTTP/2 serves gRPC unless grpcio is asked for."""

from __future__ import annotations

import asyncio

from headrace.grpc.core import Core, GrpcioCore, NativeCore, core
from headrace.settings import ServerSettings


async def made(settings: ServerSettings) -> Core:
    chosen = core(settings)
    await chosen.stop(None)
    return chosen


def test_the_own_core_is_the_default() -> None:
    assert isinstance(asyncio.run(made(ServerSettings())), NativeCore)
    assert isinstance(asyncio.run(made(ServerSettings(native_grpc=False))), GrpcioCore)

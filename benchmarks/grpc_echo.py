"""`python -m benchmarks.grpc_echo PORT`: the limit of grpc.aio, which answers with fixed bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from benchmarks import echo


class Echo(grpc.GenericRpcHandler):
    """Answers every method with the bytes of the file that `BENCHMARK_ANSWER` names."""

    def __init__(self) -> None:
        answer = Path(os.environ[echo.ANSWER]).read_bytes()

        async def call(request: bytes, context: Any) -> bytes:
            return answer

        self._handler = grpc.unary_unary_rpc_method_handler(call)

    def service(self, handler_call_details: Any) -> Any:
        return self._handler


async def main(port: str) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Echo()])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))

"""Clients that send a number to a model and check that twice the number comes back.

What came of a request is a word: `right`, `wrong`, `shut out` for a new connection that was not
taken, `lost` for one that broke, or how the server refused the request, such as `503 overloaded`
over REST and `UNAVAILABLE` over gRPC.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from contextlib import suppress
from typing import Any

import grpc

from headrace.protocol.open_inference import inference_pb2 as pb

METHOD = "/inference.GRPCInferenceService/ModelInfer"
# Streams of one connection, so that none has more than a server may allow.
CALLS_PER_CHANNEL = 64
BROKEN = (OSError, EOFError)
# Seconds.
LONGEST_IDLE = 0.5


class ShutOut(EOFError):
    """The server takes no new connection."""


class RestClient:
    """Keeps the connections that it has opened, and takes a free one for each request."""

    def __init__(self, url: str, timeout: float | None = None) -> None:
        self._port = int(url.rpartition(":")[2])
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []
        self._timeout = f"x-request-timeout: {timeout:g}\r\n" if timeout else ""

    async def ask(self, model: str, number: float) -> str:
        """Ask once."""
        row = {"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [number]}
        body = json.dumps({"inputs": [row]}).encode()
        head = (
            f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\n"
            f"content-type: application/json\r\n{self._timeout}"
            f"content-length: {len(body)}\r\n\r\n"
        )
        try:
            status, answer = await self.send(head.encode() + body)
        except ShutOut:
            return "shut out"
        except BROKEN:
            return "lost"
        if status == 200:
            return "right" if json.loads(answer)["outputs"][0]["data"] == [2 * number] else "wrong"
        return f"{status} {json.loads(answer)['code']}"

    async def send(self, message: bytes) -> tuple[int, bytes]:
        """Send any request; returns the status and the body of its answer.

        Raises:
            ShutOut: a new connection was not taken, or closed without an answer.
            OSError, EOFError: an earlier one broke.
        """
        await self._drop_idle()
        while self._free:
            reader, writer, _ = self._free.pop()
            if not reader.at_eof():
                return await self._send_on(reader, writer, message)
            # The server needed its place, as clients find out before they send.
            await _closed(writer)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            return await self._send_on(reader, writer, message)
        except BROKEN as error:
            raise ShutOut(str(error)) from error

    async def _send_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
    ) -> tuple[int, bytes]:
        try:
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(length or 0))
        except BaseException:
            writer.close()
            raise
        if b"connection: close" in head:
            await _closed(writer)
        else:
            self._free.append((reader, writer, time.monotonic()))
        return int(head[9:12]), body

    async def close(self) -> None:
        """Close the connections."""
        for _, writer, _ in self._free:
            await _closed(writer)

    async def _drop_idle(self) -> None:
        """Close what has been idle for as long as the server might be about to close it."""
        while self._free and self._free[0][2] < time.monotonic() - LONGEST_IDLE:
            await _closed(self._free.pop(0)[1])


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


class GrpcClient:
    """Calls over as many channels as keep each below a server's limit on its streams."""

    def __init__(self, address: str, timeout: float | None = None) -> None:
        self._address = address
        self._timeout = timeout
        self._channels: list[grpc.aio.Channel] = []
        self._calls: list[Any] = []
        self._in_flight = 0
        self._number = 0

    async def ask(self, model: str, number: float) -> str:
        """Ask once."""
        message = pb.ModelInferRequest(model_name=model)
        message.inputs.add(name="x", datatype="FP64", shape=[1, 1])
        message.raw_input_contents.append(struct.pack("<d", number))
        self._in_flight += 1
        if self._in_flight > CALLS_PER_CHANNEL * len(self._channels):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.insecure_channel(self._address, options)
            self._channels.append(channel)
            self._calls.append(
                channel.unary_unary(
                    METHOD,
                    pb.ModelInferRequest.SerializeToString,
                    pb.ModelInferResponse.FromString,
                )
            )
        self._number += 1
        call = self._calls[self._number % len(self._calls)]
        try:
            answer = await call(message, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            # grpcio has a server's own code for a connection that broke or could not be made.
            words = str(error.details()).lower()
            if "failed to connect" in words:
                return "shut out"
            return "lost" if "closed" in words or "reset" in words else error.code().name
        finally:
            self._in_flight -= 1
        right = answer.raw_output_contents[0] == struct.pack("<d", 2 * number)
        return "right" if right else "wrong"

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            await channel.close()

"""The client for event loops: the methods of `Client`, awaited."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from headrace.client import operations as ops
from headrace.client.flows import Flow, Flows, Policy
from headrace.client.result import InferResult
from headrace.client.schemes import open_async_transport
from headrace.client.transports import Options, drive_async, with_key

T = TypeVar("T")

LOAD_TIMEOUT = 300.0


class AsyncClient:
    """A client of one server for one event loop; tasks may share it.

    `url` starts with `http://`, `https://`, `grpc://` or `grpcs://`; without a scheme it is HTTP.
    `timeout` is in seconds for one call including its retries, None for no limit; the server is
    sent what is left of it. `retries` is the number of attempts after the first, for failed
    connections and for answers that ask for a retry. `headers` are sent with every request.
    `api_key` is sent as a bearer token; None for that of the variable `HEADRACE_API_KEY`, if any.
    `verify` is the file of the authorities to trust, False to accept any certificate, or an
    `ssl.SSLContext`. `cert` is the file of the client's own certificate and its key, or a pair of
    files. `transport` is an httpx transport that replaces the network.
    """

    def __init__(
        self,
        url: str = "http://localhost:8080",
        timeout: float | None = 60.0,
        *,
        retries: int = 2,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        verify: bool | str | Path | ssl.SSLContext = True,
        cert: str | Path | tuple[str | Path, str | Path] | None = None,
        transport: Any = None,
    ) -> None:
        self._flows = Flows(Policy(timeout, retries))
        options = Options(with_key(headers, api_key), verify, transport, cert)
        self._transport = open_async_transport(url, options)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def live(self) -> bool:
        """Whether the server is running; False when it does not answer."""
        return await self._run(self._flows.healthy(ops.Live()))

    async def ready(self) -> bool:
        """Whether the server and all its models can answer; False when it does not answer."""
        return await self._run(self._flows.healthy(ops.Ready()))

    async def model_ready(self, name: str, version: str | None = None) -> bool:
        """Whether the model can answer.

        Raises:
            NotServed: the server has no such model.
        """
        return await self._run(self._flows.healthy(ops.ModelReady(name, version)))

    async def metadata(self) -> dict[str, Any]:
        """Name, version and extensions of the server."""
        metadata: dict[str, Any] = await self._call(ops.ServerMetadata())
        return metadata

    async def model_metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Name, versions, platform, inputs and outputs of the model."""
        metadata: dict[str, Any] = await self._call(ops.ModelMetadata(name, version))
        return metadata

    async def infer(
        self,
        name: str,
        inputs: Any,
        *,
        version: str | None = None,
        outputs: list[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        id: str | None = None,
        binary: bool = True,
    ) -> InferResult:
        """Send one inference request to the model.

        `inputs` is a dict of arrays or lists by input name, a DataFrame with one column per
        input, or one array for a model with one input. `outputs` names the wanted outputs, None
        for all. `binary` sends and receives tensors as raw bytes, exactly; False uses JSON, for
        servers that lack the extension.

        Raises:
            ClientError: see `headrace.client.client_errors` for what each subclass means.
        """
        return await self._run(
            self._flows.infer(
                name,
                inputs,
                version=version,
                outputs=outputs,
                parameters=parameters,
                id=id,
                binary=binary,
            )
        )

    async def predict(self, name: str, data: Any, **options: Any) -> Any:
        """Call the model and return the same type as `data`: DataFrame, dict, array or list.

        A DataFrame keeps its index if the model returns one row for each of its rows. `options`
        are those of `infer`.

        Raises:
            ClientError: as `infer`; `BadAnswer` if `data` is an array or list and the model does
                not return exactly one output.
        """
        return await self._run(self._flows.predict(name, data, **options))

    async def index(self, *, ready: bool = False) -> list[dict[str, Any]]:
        """Name, version, state and reason of all models in the repository, or of the ready ones."""
        models: list[dict[str, Any]] = await self._call(ops.Index(ready))
        return models

    async def load(self, name: str, *, timeout: float | None = LOAD_TIMEOUT) -> None:
        """Load or reload the model; the default timeout is longer than that of other calls."""
        await self._run(self._flows.policy.within(timeout).calling(ops.Load(name)))

    async def unload(self, name: str, *, timeout: float | None = LOAD_TIMEOUT) -> None:
        """Unload the model once it has finished its current requests."""
        await self._run(self._flows.policy.within(timeout).calling(ops.Unload(name)))

    async def _call(self, operation: ops.Operation) -> Any:
        return await self._run(self._flows.policy.calling(operation))

    async def _run(self, flow: Flow[T]) -> T:
        return await drive_async(flow, self._transport)

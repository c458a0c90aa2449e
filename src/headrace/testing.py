"""A client for tests: the whole server in this process, without ports."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from typing import Any

from headrace.asgi import create_app
from headrace.errors import MissingDependency
from headrace.model import Model


class TestClient:
    """Serves a model, or a folder of models, in this process and sends requests to it.

    ```python
    with TestClient(Sentiment) as client:
        answer = client.post("/v2/models/Sentiment/infer", json={"inputs": [...]})
        assert answer.json()["outputs"][0]["data"] == ["good"]
    ```

    Takes the arguments of `create_app`. Models run in threads of this process, so that a debugger
    stops in them; `parallel_workers=1` gives those of a folder a worker process, as in production.
    A class always runs in this process, the only one that has it. Answers are httpx responses.

    Raises:
        MissingDependency: httpx is not installed.
        TypeError, ConfigurationError: as `create_app`.
        LoadFailed: on entering the block, if no model could be loaded.
    """

    # Keeps pytest from taking it for a test because of its name.
    __test__ = False

    def __init__(self, model: str | os.PathLike[str] | type[Model] = ".", **settings: Any) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MissingDependency(
                "httpx is not installed: pip install 'headrace[client]'"
            ) from error
        self._httpx = httpx
        self.app = create_app(model, **{"parallel_workers": 0, **settings})
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> TestClient:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        # Not a real host; it lets paths be relative.
        self._client = self._httpx.AsyncClient(
            transport=self._httpx.ASGITransport(self.app), base_url="http://headrace"
        )
        try:
            self._run(self.app.start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(self.app.stop())
        finally:
            self._end()

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request and return the answer, an `httpx.Response`; arguments are httpx's.

        Raises:
            RuntimeError: called outside the `with` block.
        """
        if self._loop is None:
            raise RuntimeError("use the client in a `with` block: it starts and stops the models")
        return self._run(self._client.request(method, path, **arguments))

    def get(self, path: str, **arguments: Any) -> Any:
        """Send a GET request."""
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> Any:
        """Send a POST request."""
        return self.request("POST", path, **arguments)

    def _run(self, work: Any) -> Any:
        assert self._loop is not None, "the block has begun"
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result()

    def _end(self) -> None:
        loop = self._loop
        assert loop is not None, "the block has begun"
        self._run(self._client.aclose())
        self._loop = None
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

"""Serves the endpoints of a user's `Service`, in a worker that holds nothing else."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Callable, NamedTuple

from headrace import garbage
from headrace.compat.bentoml import exceptions
from headrace.errors import (
    Cancelled,
    HeadraceError,
    LoadFailed,
    MethodNotAllowed,
    ModelFailed,
    NotFound,
    Poisoned,
    WorkerCrashed,
)
from headrace.protocol import model_call
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelRoute,
)
from headrace.protocol.model_call import BodyCall, ModelAnswer, ModelCall
from headrace.runners.current_call import CURRENT, EndpointCall
from headrace.runners.loop_inbox import LoopInbox
from headrace.runtimes.concurrent_model import ConcurrentModel, Finish, Put
from headrace.runtimes.service import service_file, tensor_calls
from headrace.runtimes.service.asgi_calls import MOUNT, AsgiCalls, answer_of
from headrace.runtimes.service.lifespans import Lifespans
from headrace.runtimes.service.service_loop import ServiceLoop
from headrace.services.endpoint import Endpoint
from headrace.services.service_context import Context, Headers, RequestView, outside_request
from headrace.settings import ModelSettings

logger = logging.getLogger("headrace.services")

# Requests that a service works on at once, and that wait in its process for a thread. Further
# ones wait in the server, where their callers can still leave them.
CONCURRENCY = 128
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Work(NamedTuple):
    """A request of an endpoint, and how the answer and the result are sent.

    `view` is the request as a context shows it; None for an endpoint that takes none.
    """

    endpoint: Endpoint
    body: bytes
    headers: Mapping[str, str]
    view: RequestView | None
    respond: Callable[[ModelAnswer, Any], Any]


class ServiceRuntime(ConcurrentModel):
    """The service that `extra["module"]` and `extra["attribute"]` name, with its endpoints.

    Coroutine functions run on one event loop, plain ones in threads.
    """

    platform = "headrace_service"

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self._state: dict[str, Any] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop.loop

    def load(self) -> None:
        """Import the service and run its start hooks.

        Raises:
            InvalidModel, LoadFailed: see `service_file.load`; or a hook raised.
        """
        extra = self.settings.extra
        self._service = service_file.load(extra["module"], extra["attribute"], self.settings.folder)
        for runner in self._service.runners:
            runner.target.prepare()
        self._loop = ServiceLoop(self._service.name)
        self._inbox = LoopInbox.of(self._loop.loop)
        try:
            for hook in self._service.startup_hooks:
                self._run_hook(hook)
            self._lifespans = self._loop.run(self._start_mounted)
            self._asgi = self._loop.run(self._make_asgi)
        except BaseException:
            self._loop.close()
            raise
        garbage.spare_what_is_alive()

    async def _make_asgi(self) -> AsgiCalls | None:
        """On the loop: middlewares may look for it when they are made."""
        service = self._service
        if not service.middlewares and not service.mounts:
            return None
        return AsgiCalls(service, self._answer_call, self._lifespans.states)

    async def _start_mounted(self) -> Lifespans:
        return await Lifespans.started(self._service.mounts)

    def unload(self) -> None:
        """Stop what is mounted, then run the stop hooks, all of them even if some fail."""
        self._loop.run(self._lifespans.stop)
        for hook in self._service.shutdown_hooks:
            try:
                self._run_hook(hook)
            except Exception:
                logger.exception("a stop hook of service %s failed", self._service.name)
        self._loop.close()
        gc.unfreeze()

    def _run_hook(self, hook: Callable[..., Any]) -> None:
        takes_context = bool(inspect.signature(hook).parameters)
        self._loop.run(hook, *([outside_request(self._state)] if takes_context else []))

    def metadata(self) -> ModelMetadata:
        whole = bool(self._service.middlewares or self._service.mounts)
        routes = []
        for endpoint in self._service.apis.values():
            route = endpoint.declared(only_body=not (whole or endpoint.takes_context))
            # Clients may have the slash at the end that the definition has.
            for path in dict.fromkeys((route.path, route.path.rstrip("/") + "/")):
                routes.append(replace(route, path=path, is_listed=path == route.path))
                if self._service.middlewares:
                    # One of them may answer the preflight request of a browser.
                    routes.append(ModelRoute(path, "OPTIONS", endpoint.name, is_listed=False))
        for path in sorted(self._service.mounts, key=len, reverse=True):
            below = path.rstrip("/") + "/{rest:path}"
            routes += [
                ModelRoute(each, method, MOUNT + path, relays=True)
                for each in dict.fromkeys((path, below))
                for method in METHODS
            ]
        return ModelMetadata(
            platform=self.platform,
            routes=routes,
            concurrency=CONCURRENCY,
            is_service=True,
            streams=bool(self._service.mounts),
        )

    def begin(self, request: InferenceRequest, call: EndpointCall, finish: Finish) -> None:
        """Begin to answer a request of an endpoint, or of what is mounted."""
        try:
            body = model_call.body_of(request)
            if body is not None:
                work = self._work_of_body(body)
            elif (found := model_call.from_request(request)) is None:
                work = self._work_of_tensors(request)
            elif self._asgi is not None:
                self._spawn(call, partial(self._answer_by_asgi, *found), "", finish)
                return
            else:
                work = self._work(*found, id=request.id)
        except Exception as exc:
            finish(exc)
            return
        if work.endpoint.is_async:
            self._spawn(call, partial(self._respond, work), work.endpoint.name, finish)
        else:
            self._loop.submit(partial(self._run, work, call, finish))

    def begin_stream(
        self, request: InferenceRequest, call: EndpointCall, put: Put, finish: Finish
    ) -> None:
        """Begin to answer a request of what is mounted, piece by piece."""
        found = model_call.from_request(request)
        if found is None or self._asgi is None:
            super().begin_stream(request, call, put, finish)
            return
        self._spawn(call, partial(self._relay, self._asgi, *found, put), "", finish)

    async def _relay(
        self, asgi: AsgiCalls, call: ModelCall, body: bytes, put: Put
    ) -> InferenceResponse:
        async def send(answer: ModelAnswer, more: bool) -> None:
            await put(model_call.to_piece(answer, more))

        await asgi.relay(call, body, send)
        return InferenceResponse([])

    def _work(self, call: ModelCall, body: bytes, id: str) -> Work:
        endpoint = self._endpoint(call.handler)
        headers = Headers(call.headers)
        view = RequestView(headers, call.query, call.method, call.path, id)
        return Work(endpoint, body, headers, view, _as_call)

    def _work_of_body(self, call: BodyCall) -> Work:
        """The work for a call of which only the body is needed, so by an endpoint without context.

        Hot.
        """
        headers = {"content-type": call.content_type}
        return Work(self._endpoint(call.handler), call.body, headers, None, _as_call)

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self._service.apis.get(name)
        if endpoint is None:
            # Since the server learned of it, the service has been loaded again.
            raise NotFound(f"service '{self._service.name}' has no endpoint '{name}' any more")
        return endpoint

    def _work_of_tensors(self, request: InferenceRequest) -> Work:
        endpoint = tensor_calls.chosen(request, self._service.apis, self._service.name)
        given = tensor_calls.body_of(request, endpoint)
        headers = Headers(given.headers.items())
        view = RequestView(headers, "", "", "", request.id)
        respond = partial(tensor_calls.response_of, is_tensor=given.is_tensor)
        return Work(endpoint, given.body, headers, view, respond)

    def _spawn(
        self, call: EndpointCall, answer: Callable[[], Any], endpoint: str, finish: Finish
    ) -> None:
        async def run() -> None:
            CURRENT.set(call)
            try:
                if call.is_cancelled:
                    raise _left_early()
                outcome = await answer()
            except BaseException as exc:
                if isinstance(exc, asyncio.CancelledError) and call.is_cancelled:
                    outcome = Cancelled("nobody waits for the answer any more")
                else:
                    outcome = self._failure(exc, endpoint, call.request_id)
            finish(outcome)

        def start() -> None:
            self._loop.spawn(call, run())

        if self._loop.is_here:
            start()
        else:
            # A thread reads instead of the loop.
            self._inbox.post(start)

    async def _respond(self, work: Work) -> Any:
        """Answer an endpoint that is a coroutine function. Hot."""
        endpoint, context = work.endpoint, self._context(work)
        value, args, kwargs = endpoint.arguments(work.body, work.headers, context)
        try:
            result = await endpoint.function(*args, **kwargs)
        finally:
            if value is not None:
                endpoint.release(value)
        return work.respond(endpoint.answer(result, context), result)

    def _run(self, work: Work, call: EndpointCall, finish: Finish) -> None:
        """Answer an endpoint that is a plain function, in a thread."""
        CURRENT.set(call)
        try:
            if call.is_cancelled:
                raise _left_early()
            outcome: Any = self._respond_plainly(work)
        except BaseException as exc:
            outcome = self._failure(exc, work.endpoint.name, call.request_id)
        finish(outcome)

    def _respond_plainly(self, work: Work) -> Any:
        endpoint, context = work.endpoint, self._context(work)
        value, args, kwargs = endpoint.arguments(work.body, work.headers, context)
        try:
            result = endpoint.function(*args, **kwargs)
        finally:
            if value is not None:
                endpoint.release(value)
        return work.respond(endpoint.answer(result, context), result)

    def _context(self, work: Work) -> Context | None:
        return None if work.view is None else Context(work.view, self._state)

    async def _answer_by_asgi(self, call: ModelCall, body: bytes) -> InferenceResponse:
        assert self._asgi is not None, "only asked where there is one"
        return model_call.to_response(await self._asgi.answer(call, body))

    async def _answer_call(self, call: ModelCall, body: bytes) -> ModelAnswer:
        """Answer the endpoint of a call that has passed the middlewares.

        Raises:
            HeadraceError: whatever the endpoint raised.
        """
        current = CURRENT.get()
        id = current.request_id if current is not None else ""
        try:
            work = self._work(call, body, id)._replace(respond=lambda answer, result: answer)
            if call.method != work.endpoint.method:
                raise MethodNotAllowed(f"{call.method} is not allowed on {call.path}")
            answer: ModelAnswer
            if work.endpoint.is_async:
                answer = await self._respond(work)
            else:
                answer = await self._loop.in_thread(self._respond_plainly, work)
            return answer
        except asyncio.CancelledError:
            # A middleware may have done it, such as one that bounds the time.
            raise
        except BaseException as exc:
            raise self._failure(exc, call.handler, id) from exc

    def _failure(self, exc: BaseException, endpoint: str, id: str) -> HeadraceError:
        """The error for the caller: the endpoint's own, or one that keeps the reason to the log."""
        where = f"endpoint '{endpoint}' of " if endpoint else ""
        if isinstance(exc, (WorkerCrashed, Poisoned, LoadFailed)):
            # Of the worker of a model that it called, or of something that it loads itself.
            return ModelFailed(f"{where}service '{self._service.name}' failed: {exc.message}")
        if isinstance(exc, HeadraceError):
            status = exceptions.declared_status(exc)
            if status is not None and exc.answer is None:
                exc.answer = answer_of(exc, status)
            return exc
        extra = {"request_id": id}
        logger.error("%sservice %s failed", where, self._service.name, exc_info=exc, extra=extra)
        return ModelFailed(
            f"{where}service '{self._service.name}' failed on this request; the server's log has "
            "the details"
        )


def _left_early() -> Cancelled:
    return Cancelled("every caller left before the endpoint began")


def _as_call(answer: ModelAnswer, result: Any) -> InferenceResponse:
    return model_call.to_response(answer)

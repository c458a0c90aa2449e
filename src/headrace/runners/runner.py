"""`Runner`: a stored model as a service calls it."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from threading import get_ident
from typing import Any

from headrace.errors import DeadlineExceeded, HeadraceError, InvalidModel, shorten
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.runners import current_call
from headrace.runners.current_call import CURRENT, Answer, EndpointCall, Link, Outcome
from headrace.runners.method_limits import MethodLimits, method_limits
from headrace.runners.runner_targets import target_of
from headrace.runners.runner_values import value_of

logger = logging.getLogger("headrace.runners")

NAME = re.compile(r"[a-z0-9]([-._a-z0-9]*[a-z0-9])?")
LONGEST_NAME = 63


def checked_name(name: str, what: str) -> str:
    """The name of a runner or a service in lower case.

    Raises:
        InvalidModel: it is not one; `what` is the thing that is named.
    """
    lowered = name.lower()
    if lowered != name:
        logger.warning("converting '%s' to lower case: '%s'", name, lowered)
    if len(lowered) > LONGEST_NAME or not NAME.fullmatch(lowered):
        raise InvalidModel(
            f"{what}: '{shorten(name)}' is not a name; use letters, digits, '_', '.' and '-', "
            f"{LONGEST_NAME} at most, the first and the last a letter or a digit"
        )
    return lowered


class Runner:
    """A handle on a stored model, or on a `Runnable` class; `runner.predict.run(x)` asks it.

    There is an attribute for each method in the model's signatures, or each that the Runnable
    marks, with `run` and `async_run`. `runner.run` and `runner.async_run` are those of its only
    method, or of `__call__`.

    In a service that is served, the model runs in the server's workers under the runner's name,
    and a call shares its queue and its batches with every other request for it. Anywhere else,
    `init_local` loads it into this process.

    A Runnable is created with `runnable_init_params`. `models` are the stored models that it loads
    itself, so that they are packed with a service.

    `max_batch_size` counts rows. `max_latency_ms` is how long one call may take, with its wait in
    the queue, in milliseconds; a call that takes longer fails with `DeadlineExceeded`.
    `method_configs` sets either for one method: `{"predict": {"max_batch_size": 50}}`.
    `scheduling_strategy` and `embedded` are accepted and have no effect.

    Raises:
        InvalidModel: the name, the methods or an option cannot be used.
    """

    run: RunnerMethod
    async_run: Any

    def __init__(
        self,
        runnable_class: Any,
        *,
        runnable_init_params: Mapping[str, Any] | None = None,
        name: str | None = None,
        scheduling_strategy: Any = None,
        models: Sequence[Any] | None = None,
        max_batch_size: int | None = None,
        max_latency_ms: float | None = None,
        method_configs: Mapping[str, Mapping[str, Any]] | None = None,
        embedded: bool = False,
    ) -> None:
        self.target = target_of(runnable_class, runnable_init_params, models or ())
        self.name = checked_name(name or self.target.name.lower(), "a runner")
        self.models = self.target.models
        self._local: Any = None
        signatures = self.target.signatures(f"runner '{self.name}'")
        limits = method_limits(
            f"runner '{self.name}'", signatures, max_batch_size, max_latency_ms, method_configs
        )
        self.methods = {
            name: RunnerMethod(self, name, found, limits[name])
            for name, found in signatures.items()
        }
        self._offer(self.methods)

    def _offer(self, methods: dict[str, RunnerMethod]) -> None:
        for name, method in methods.items():
            if not name.startswith("__") and not hasattr(self, name):
                setattr(self, name, method)
        only = methods.get("__call__") or methods.get("run")
        if only is None and len(methods) == 1:
            (only,) = methods.values()
        if only is not None:
            self.run, self.async_run = only, only.async_run

    def init_local(self, quiet: bool = False) -> None:
        """Load the model into this process, for tests and notebooks; warns unless `quiet`.

        Its methods then take and return what they do where it is served.

        Raises:
            InvalidModel: it was called before.
        """
        if self._local is not None:
            raise InvalidModel(f"runner '{self.name}' is local already")
        if not quiet:
            logger.warning(
                "runner '%s' runs in this process, for debugging and tests only", self.name
            )
        self._local = self.target.load()

    def init_client(self) -> None:
        """Nothing has to be done: in a service that is served, a runner finds its model."""

    def destroy(self) -> None:
        """Forget the model that `init_local` loaded."""
        self._local = None

    def __repr__(self) -> str:
        return f"Runner(name={self.name!r}, {self.target!r})"

    def __getattr__(self, name: str) -> Any:
        # Only for what is missing.
        known = ", ".join(self.__dict__.get("methods", ()))
        raise AttributeError(
            f"runner '{self.__dict__.get('name')}' has no '{name}', only {known}: the signatures "
            "that its model was saved or imported with, or what its Runnable marks"
        )


class RunnerMethod:
    """One method of a runner's model. Calling it is the same as `run`."""

    def __init__(self, runner: Runner, name: str, signature: Any, limits: MethodLimits) -> None:
        self.name = name
        self.limits = limits
        self.batchable: bool = signature.batchable
        self.batch_dim: tuple[int, int] = (0, 0)
        if self.batchable:
            dim_in, dim_out = signature.batch_dim
            self.batch_dim = (dim_in, dim_out)
        self._runner = runner

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The model's answer; the thread waits for it.

        Raises:
            InvalidInput: the model takes no such value.
            DeadlineExceeded: the request of the endpoint, or `max_latency_ms`, ran out of time.
            Cancelled: the caller of the endpoint left.
            HeadraceError: what the model, or the server, refused it with.
            RuntimeError: it is called by a coroutine, which has to await `async_run`.
        """
        runner = self._runner
        if runner._local is not None:
            return self._call_locally(args, kwargs)
        call = CURRENT.get()
        link = self._link(call)
        if call is not None and call.thread == get_ident():
            # It would wait for what only the loop can receive.
            raise RuntimeError(
                f"{runner.name}.{self.name}.run blocks the event loop that this endpoint runs on; "
                f"use: await {runner.name}.{self.name}.async_run(...)"
            )
        request, timeout = self._request(args, kwargs), self._timeout(call)
        answer = Answer()
        number = link.begin(runner.name, _named(request, call), timeout, answer.settle)
        if call is not None:
            call.waits_for(answer)
        try:
            return value_of(answer.wait(), self.batch_dim)
        except HeadraceError:
            # Harmless where it has been answered.
            link.withdraw(number)
            raise
        finally:
            if call is not None:
                call.waited_for(answer)

    __call__ = run

    async def async_run(self, *args: Any, **kwargs: Any) -> Any:
        """The model's answer; cancelling the task withdraws the request.

        Raises:
            HeadraceError: as `run`.
        """
        runner = self._runner
        if runner._local is not None:
            work = partial(self._call_locally, args, kwargs)
            return await asyncio.get_running_loop().run_in_executor(None, work)
        call = CURRENT.get()
        loop = _loop_of(call)
        link = self._link(call)
        request, timeout = self._request(args, kwargs), self._timeout(call)
        future: asyncio.Future[InferenceResponse] = loop.create_future()
        thread = get_ident()

        def done(outcome: Outcome) -> None:
            if get_ident() == thread:
                _resolve(future, outcome)
            else:
                link.wake(loop, partial(_resolve, future, outcome))

        number = link.begin(runner.name, _named(request, call), timeout, done)
        try:
            response = await future
        except asyncio.CancelledError:
            link.withdraw(number)
            raise
        return value_of(response, self.batch_dim)

    def _link(self, call: EndpointCall | None) -> Link:
        link = current_call.link_of(call)
        if link is None:
            raise HeadraceError(
                f"runner '{self._runner.name}' runs in a service that is served; to call it here, "
                "load its model into this process with init_local()"
            )
        return link

    def _call_locally(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        runner = self._runner
        return runner.target.call(runner._local, f"{runner.name}.{self.name}", self, args, kwargs)

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> InferenceRequest:
        # An only method is the one that answers a request which names none.
        method = self.name if len(self._runner.methods) > 1 else None
        where = f"{self._runner.name}.{self.name}"
        return self._runner.target.request(where, method, self.batch_dim, args, kwargs)

    def _timeout(self, call: EndpointCall | None) -> float | None:
        """Seconds that the call may take; None for as long as the server lets it."""
        timeout: float | None = None
        if call is not None and call.deadline is not None:
            timeout = call.deadline - time.monotonic()
        if (most := self.limits.max_latency_ms) is not None:
            timeout = most / 1000 if timeout is None else min(timeout, most / 1000)
        if timeout is not None and timeout <= 0:
            raise DeadlineExceeded("the request's time ran out before a model was asked")
        return timeout


def _loop_of(call: EndpointCall | None) -> asyncio.AbstractEventLoop:
    """The running loop. To ask for it takes a system call in some versions of Python."""
    if call is not None and call.loop is not None and call.thread == get_ident():
        return call.loop
    return asyncio.get_running_loop()


def _named(request: InferenceRequest, call: EndpointCall | None) -> InferenceRequest:
    # In the log, the id of the endpoint's request is that of the calls it makes.
    request.id = call.request_id if call is not None else ""
    return request


def _resolve(future: asyncio.Future[InferenceResponse], outcome: Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, HeadraceError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)

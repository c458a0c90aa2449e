"""What MLflow's agent server does for agents: their requests' headers, and the id of a trace.

Also the way for MLflow's wrappers, which are plain functions, to call a model that is not.
Source: `mlflow.genai.agent_server`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import wraps
from typing import Any, Callable

from headrace.protocol.messages import RESPONSES_AGENT
from headrace.runtimes.loop_thread import LoopThread

RETURN_TRACE = "x-mlflow-return-trace-id"

METHODS = ("predict", "predict_stream")


class Agent:
    """Calls an agent as MLflow's agent server does. `task` is what MLflow says it is made for."""

    def __init__(self, task: str) -> None:
        import mlflow

        self.mlflow_version = mlflow.__version__
        self._task = task
        self._set_headers: Callable[[dict[str, str]], None] = lambda headers: None
        # An older MLflow has none, nor has a small one.
        with suppress(ImportError):
            from mlflow.genai.agent_server.utils import set_request_headers

            self._set_headers = set_request_headers

    def call(self, predict: Callable[..., Any], arguments: Any, headers: Mapping[str, str]) -> Any:
        """The whole answer, with the id of its trace if the request asks for it."""
        self._set_headers(dict(headers))
        with self._traced("predict", headers) as span:
            answer = predict(*arguments)
            if span is not None and isinstance(answer, dict):
                metadata = {**(answer.get("metadata") or {}), "trace_id": span.trace_id}
                answer = {**answer, "metadata": metadata}
        return answer

    def stream(
        self, predict_stream: Callable[..., Any], arguments: Any, headers: Mapping[str, str]
    ) -> Iterator[Any]:
        """The pieces of the answer, and then the id of its trace if the request asks for it."""
        self._set_headers(dict(headers))
        with self._traced("predict_stream", headers) as span:
            yield from predict_stream(*arguments)
            if span is not None:
                yield {"trace_id": span.trace_id}

    def _traced(self, name: str, headers: Mapping[str, str]) -> AbstractContextManager[Any]:
        """A span around what is called; None in its place if nobody asks for its id."""
        if self._task != RESPONSES_AGENT or headers.get(RETURN_TRACE, "").lower() != "true":
            return nullcontext()
        import mlflow

        span: AbstractContextManager[Any] = mlflow.start_span(name)
        return span


class PlainMethods:
    """A model whose coroutine functions can be called like plain ones; they run on `loop`.

    The model itself stays as it is, so its own methods may await one another.
    """

    def __init__(self, model: Any, loop: LoopThread) -> None:
        self._model = model
        for name in METHODS:
            method: Any = getattr(model, name, None)
            kind = _kind(method)
            if kind == "coroutine":
                setattr(self, name, _called(method, loop.run))
            elif kind == "generator":
                setattr(self, name, _called(method, loop.iterate))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def can_stream(pyfunc: Mapping[str, Any], model: Any) -> bool:
    """Whether a model can stream; `model` is the Python object that was logged, or None.

    MLflow records it in the `python_function` flavor, but for each of its agents, even for those
    that only inherit the `predict_stream` that raises NotImplementedError.
    """
    if not pyfunc.get("streamable"):
        return False
    method: Any = getattr(type(model), "predict_stream", None)
    return method is None or inspect.unwrap(method).__module__ != "mlflow.pyfunc.model"


def is_asynchronous(model: Any) -> bool:
    """Whether the model has a coroutine function where MLflow's wrappers expect a plain one."""
    return any(_kind(getattr(model, name, None)) for name in METHODS)


def make_plain(wrapper: Any, model: Any, loop: LoopThread) -> None:
    """Have MLflow's wrapper call the model's coroutine functions like plain ones."""
    plain = PlainMethods(model, loop)
    for name, value in list(vars(wrapper).items()):
        if value is model:
            setattr(wrapper, name, plain)


def _kind(method: Any) -> str:
    function = inspect.unwrap(method) if callable(method) else None
    if inspect.iscoroutinefunction(function):
        return "coroutine"
    return "generator" if inspect.isasyncgenfunction(function) else ""


def _called(method: Callable[..., Any], run: Callable[[Any], Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return run(method(*args, **kwargs))

    return call

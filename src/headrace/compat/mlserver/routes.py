"""The custom routes of one runtime, and how each is answered."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.compat.mlserver.answers import answer, answer_to, never_leaves
from headrace.compat.mlserver.handler_arguments import Arguments, Unservable
from headrace.compat.mlserver.handlers.custom import handlers_of
from headrace.errors import NotFound
from headrace.protocol.messages import ModelRoute
from headrace.protocol.model_call import ModelAnswer, ModelCall, asgi_scope

logger = logging.getLogger("headrace.mlserver")


class Routes:
    """The methods of a loaded runtime that `custom_handler` marks.

    One that cannot be served is left out, and the log says why.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._arguments: dict[str, Arguments] = {}
        self.declared: list[ModelRoute] = []
        for name, (path, method) in handlers_of(model).items():
            try:
                if not path.startswith("/"):
                    raise Unservable("its path does not begin with a slash")
                self._arguments[name] = Arguments(getattr(model, name), path)
            except Unservable as error:
                logger.warning("custom route %s %s is not served: %s", method, path, error)
                continue
            text = inspect.getdoc(getattr(model, name)) or ""
            summary = text.partition("\n")[0]
            self.declared.append(ModelRoute(path, method.upper(), name, summary))

    async def answer(self, call: ModelCall, body: bytes) -> ModelAnswer:
        """Run the handler of a route.

        Raises:
            NotFound: the model has no such route, or no longer has it.
            InvalidInput: an argument is missing or not of its type.
            BadModelOutput: what the handler returned cannot be sent.
        """
        arguments = self._arguments.get(call.handler)
        if arguments is None:
            raise NotFound(f"nothing is served at {call.path}")
        scope = {**asgi_scope(call), "path_params": call.path_params}
        bound = arguments.bind(scope, body, _receiver(body))
        try:
            result = getattr(self._model, call.handler)(**bound)
            if inspect.isawaitable(result):
                result = await result
            return await answer(result, scope, arguments.answers_briefly)
        except Exception as error:
            answered = answer_to(error)
            if answered is None:
                raise
            return answered


def _receiver(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    pending = [body]

    async def receive() -> dict[str, Any]:
        if not pending:
            return await never_leaves()
        return {"type": "http.request", "body": pending.pop(), "more_body": False}

    return receive

"""The calls that runners make, in a service's worker, to the models that the server serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from headrace.dataplane.call import Call, Calls, as_error
from headrace.executors.runner_answers import Answered
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.serving.served_model import ServedModel

PROTOCOL = "runner"


class RunnerCalls:
    """Sends them the way of every other call, so that they share queues, batches and counters.

    They are not admitted again: the request of the endpoint was.
    """

    def __init__(self, get: Callable[[str], ServedModel], calls: Calls) -> None:
        self._get = get
        self._calls = calls

    def ask(
        self, name: str, request: InferenceRequest, timeout: float | None, answered: Answered
    ) -> asyncio.Future[InferenceResponse]:
        """Queue the request of a runner; `timeout` is in seconds. Hot.

        `answered` gets the future when it is done.

        Raises:
            NotFound: no model has the runner's name.
            ModelNotReady, InvalidInput, Overloaded: as `ServedModel.submit`.
        """
        call = Call(PROTOCOL, name, request.id)
        call.received = request.nbytes
        try:
            model = call.model = self._get(name)
            _name_input(model, request)
            future = self._calls.submit(call, model, request, timeout)
        except Exception as exc:
            error = as_error(exc, request.id)
            self._calls.refused(call, error, error.kind, 0)
            raise error from None
        future.add_done_callback(partial(self._ended, call, answered))
        return future

    def _ended(
        self, call: Call, answered: Answered, future: asyncio.Future[InferenceResponse]
    ) -> None:
        if future.cancelled():
            self._calls.left(call, "left")
        elif (exc := future.exception()) is not None:
            error = as_error(exc, call.request_id)
            self._calls.refused(call, error, error.kind, 0)
        else:
            sent = sum(len(tensor.data) for tensor in future.result().outputs)
            self._calls.answered(call, "ok", sent)
        answered(future)


def _name_input(model: ServedModel, request: InferenceRequest) -> None:
    """Give a lone input the name that the model has for it, as requests of clients have."""
    inputs, known = request.inputs, model.model_metadata.inputs
    if len(inputs) == 1 and len(known) == 1:
        inputs[0].name = known[0].name

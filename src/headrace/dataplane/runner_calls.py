"""The calls that runners make, in a service's worker, to the models that the server serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from headrace.dataplane.call import Call, Calls, as_error
from headrace.errors import Cancelled, HeadraceError, ModelFailed, NotFound, TooLarge, shorten
from headrace.executors.runner_answers import Answered
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.open_inference.counts import Counts
from headrace.serving.served_model import ServedModel
from headrace.settings import ServerSettings

PROTOCOL = "runner"


class RunnerCalls:
    """Sends them the way of every other call, so that they share queues, batches and counters.

    They are not admitted again: the request of the endpoint was. Their status is the one that
    HTTP has for their outcome; `status_of` gives that of an error.
    """

    def __init__(
        self,
        get: Callable[[str], ServedModel],
        calls: Calls,
        status_of: Callable[[HeadraceError], int],
        settings: ServerSettings,
    ) -> None:
        self._get = get
        self._largest = settings.max_body_size
        self._counts = Counts.of(settings)
        self._status_of = status_of
        self._calls = calls

    def ask(
        self, name: str, request: InferenceRequest, timeout: float | None, answered: Answered
    ) -> asyncio.Future[InferenceResponse]:
        """Queue the request of a runner; `timeout` is in seconds. Hot.

        `answered` gets the future when it is done.

        Raises:
            ModelFailed: the service does not list the runner.
            TooLarge: the request has more bytes, or more of something, than a client's may.
            ModelNotReady, InvalidInput, Overloaded: as `ServedModel.submit`.
        """
        call = Call(PROTOCOL, name, request.id)
        call.is_inner = True
        call.received = request.received
        try:
            model = call.model = self._model(name)
            self._check_size(name, request)
            _name_input(model, request)
            future = self._calls.submit(call, model, request, timeout)
        except Exception as exc:
            error = as_error(exc, request.id)
            self._refused(call, error)
            raise error from None
        future.add_done_callback(partial(self._ended, call, answered))
        return future

    def _model(self, name: str) -> ServedModel:
        try:
            return self._get(name)
        except NotFound:
            # The service is wrong, not its caller, for whom a 404 would mean the endpoint.
            raise ModelFailed(
                f"runner '{shorten(name)}' is not served: add it to the runners of the service, "
                "Service(..., runners=[...])"
            ) from None

    def _check_size(self, name: str, request: InferenceRequest) -> None:
        """Hot."""
        if request.received > self._largest:
            raise TooLarge(
                f"the request for runner '{shorten(name)}' has {request.received} bytes, at most "
                f"{self._largest} allowed; --max-body-size raises the cap"
            )
        inputs, outputs = request.inputs, request.outputs
        # What most requests have is not counted.
        if len(inputs) > 1 or outputs or request.parameters:
            self._counts.check("inputs", len(inputs))
            self._counts.check("outputs", len(outputs or ()))
            each = (tensor.parameters for tensor in inputs)
            self._counts.check_parameters(request.parameters, *each)

    def _ended(
        self, call: Call, answered: Answered, future: asyncio.Future[InferenceResponse]
    ) -> None:
        if future.cancelled():
            self._calls.left(call, self._status_of(Cancelled("withdrawn")))
        elif (exc := future.exception()) is not None:
            self._refused(call, as_error(exc, call.request_id))
        else:
            sent = sum(len(tensor.data) for tensor in future.result().outputs)
            self._calls.answered(call, 200, sent)
        answered(future)

    def _refused(self, call: Call, error: HeadraceError) -> None:
        self._calls.refused(call, error, self._status_of(error), 0)


def _name_input(model: ServedModel, request: InferenceRequest) -> None:
    """Give a lone input the name that the model has for it, as requests of clients have."""
    inputs, known = request.inputs, model.model_metadata.inputs
    if len(inputs) == 1 and len(known) == 1:
        inputs[0].name = known[0].name

"""What a runner asks for has the bounds of what a client asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.dataplane.runner_calls import RunnerCalls
from headrace.errors import HeadraceError, TooLarge
from headrace.protocol.messages import InferenceRequest, ModelMetadata
from headrace.protocol.tensor import Tensor
from headrace.settings import ServerSettings

SETTINGS = ServerSettings(max_body_size=100, max_inputs=2, max_outputs=2, max_parameters=2)


class Calls:
    """Keeps the requests that are submitted, and the errors of those that are refused."""

    def __init__(self) -> None:
        self.submitted: list[Any] = []
        self.refusals: list[HeadraceError] = []

    def submit(self, call: Any, model: Any, request: Any, timeout: Any) -> Any:
        self.submitted.append(request)
        return SimpleNamespace(add_done_callback=lambda callback: None)

    def refused(self, call: Any, error: HeadraceError, status: int, sent: int) -> None:
        self.refusals.append(error)


def ask(calls: Calls, request: InferenceRequest) -> None:
    model = SimpleNamespace(name="m", model_metadata=ModelMetadata())
    runners = RunnerCalls(
        cast(Any, lambda name: model), cast(Any, calls), lambda error: 1, SETTINGS
    )
    request.received = request.nbytes
    runners.ask("m", request, None, cast(Any, None))


def request(size: int = 1, inputs: int = 1, **more: Any) -> InferenceRequest:
    tensors = [Tensor(str(number), "INT8", [size], bytes(size)) for number in range(inputs)]
    return InferenceRequest(tensors, **more)


FITTING = {
    "body-size": request(100),
    "inputs": request(inputs=2),
    "outputs": request(outputs=["a", "b"]),
    "parameters": request(parameters={"a": 1, "b": 2}),
}
BEYOND = {
    "body-size": request(101),
    "inputs": request(inputs=3),
    "outputs": request(outputs=["a", "b", "c"]),
    "parameters": request(parameters={"a": 1, "b": 2, "c": 3}),
}


@pytest.mark.parametrize("flag", list(FITTING))
def test_as_much_as_a_client_may_ask_for_is_passed_on(flag: str) -> None:
    calls = Calls()
    ask(calls, FITTING[flag])

    assert calls.submitted == [FITTING[flag]]


@pytest.mark.parametrize("flag", list(BEYOND))
def test_more_is_refused_with_the_flag_and_counted(flag: str) -> None:
    calls = Calls()
    with pytest.raises(TooLarge, match=f"--max-{flag} raises the cap"):
        ask(calls, BEYOND[flag])

    assert [type(error) for error in calls.refusals] == [TooLarge]
    assert calls.submitted == []

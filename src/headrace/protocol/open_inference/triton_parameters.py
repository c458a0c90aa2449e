"""The parameters of requests that Triton's extensions define: followed, or refused by name.

Sources: Triton's "Sequence", "Schedule policy" and "Shared-memory" extensions of the protocol.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from headrace.errors import InvalidInput
from headrace.protocol.json_words import written
from headrace.protocol.messages import InferenceRequest

EMPTY_FINAL = "triton_enable_empty_final_response"
SHARED_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
NO_SHARED_MEMORY = (
    "shared memory is not supported; send tensors in the request, and receive them in the answer"
)
# Why a parameter cannot be followed, unless its value says that there is nothing to follow.
_REFUSED = {
    "priority": "requests are answered in the order in which they arrive",
    "sequence_id": "models keep no state between requests",
    "sequence_start": "models keep no state between requests",
    "sequence_end": "models keep no state between requests",
}
OPTIONS = frozenset(("timeout", EMPTY_FINAL, *_REFUSED))


def refuse_shared_memory(parameters: Container[str], where: str) -> None:
    """Check that a tensor is not said to be in a region of shared memory.

    Raises:
        InvalidInput: it is; `where` names the tensor.
    """
    for name in SHARED_MEMORY:
        if name in parameters:
            raise InvalidInput(f"{where}: parameter {name}: {NO_SHARED_MEMORY}")


def take_options(request: InferenceRequest, declared: Container[str] = ()) -> None:
    """Take the parameters that are for the server out of those that the model gets.

    `timeout`, in microseconds, becomes the request's. A name in `declared` is a parameter of the
    model itself and stays.

    Raises:
        InvalidInput: a parameter asks for what the server does not do, or is not a time.
    """
    parameters = request.parameters
    if not parameters or OPTIONS.isdisjoint(parameters):
        return
    for name in sorted(OPTIONS.intersection(parameters)):
        if name in declared:
            continue
        value = parameters.pop(name)
        if name == "timeout":
            request.timeout = _seconds(value)
        elif name in _REFUSED and value not in (0, "", None):
            raise InvalidInput(f"request: parameter {name} is not supported: {_REFUSED[name]}")
    request.parameters = parameters or None


def _seconds(value: Any) -> float | None:
    """A timeout as clients of Triton give it: in microseconds, with 0 for none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # The range first: infinity and NaN have no integer.
    if not is_number or not 0 <= value < 2**63 or value != int(value):
        raise InvalidInput(
            "request: parameter timeout: expected a whole number of microseconds of at least 0 "
            f"and below 2**63, got {written(value)}"
        )
    return value / 1e6 if value else None

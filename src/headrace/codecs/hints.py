"""How the type hints in the signatures of models are read."""

from __future__ import annotations

import typing
from typing import Any


def expanded(hint: Any) -> Any:
    """The type that an alias made by a `type` statement stands for; any other hint as it is.

    numpy's `NDArray[numpy.float64]` is such an alias in some versions.
    """
    origin = typing.get_origin(hint) or hint
    # By name: Python has had the class since 3.12, and typing_extensions has it for older ones.
    if type(origin).__name__ != "TypeAliasType":
        return hint
    arguments = typing.get_args(hint)
    value = origin.__value__
    return expanded(value[arguments] if arguments else value)

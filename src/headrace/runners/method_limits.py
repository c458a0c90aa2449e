"""The limits of each method of a runner: `max_batch_size` and `max_latency_ms`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.errors import InvalidModel, listing, shorten

logger = logging.getLogger("headrace.runners")


class MethodLimits(NamedTuple):
    """Most rows in a batch, and milliseconds that a call may take; None where nothing is set."""

    max_batch_size: int | None = None
    max_latency_ms: float | None = None


def method_limits(
    where: str,
    signatures: Mapping[str, Any],
    max_batch_size: int | None,
    max_latency_ms: float | None,
    method_configs: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, MethodLimits]:
    """The limits of each method; those in `method_configs` take precedence.

    Raises:
        InvalidModel: there is no such method or option, or a number is not above 0; the message
            begins with `where`.
    """
    general: dict[str, Any] = {"max_batch_size": max_batch_size, "max_latency_ms": max_latency_ms}
    _check(where, general)
    found = {}
    configs = dict(method_configs or {})
    for name, signature in signatures.items():
        own = dict(configs.pop(name, {}))
        _check(f"{where}: method_configs of '{name}'", own)
        if own.get("max_batch_size") is not None and not signature.batchable:
            logger.warning(
                "%s: '%s' is not batchable, so max_batch_size has no effect", where, name
            )
        given = {key: value for key, value in own.items() if value is not None}
        found[name] = MethodLimits(**{**general, **given})
    if configs:
        raise InvalidModel(
            f"{where}: method_configs: there is no method {listing(sorted(configs))}, only "
            f"{listing(list(signatures))}"
        )
    return found


def _check(where: str, options: Mapping[str, Any]) -> None:
    for name, number in options.items():
        if name not in MethodLimits._fields:
            raise InvalidModel(
                f"{where}: there is no option '{shorten(name)}', only "
                f"{listing(MethodLimits._fields)}"
            )
        wanted = int if name == "max_batch_size" else (int, float)
        if number is not None and not (isinstance(number, wanted) and number > 0):
            raise InvalidModel(f"{where}: {name} must be a number above 0, got {shorten(number)}")

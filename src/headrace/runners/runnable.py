"""`Runnable`: a class of a user's own whose methods a runner calls."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from headrace.errors import BadModelOutput, InvalidInput, InvalidModel, shorten

_MARK = "__headrace_runnable_method__"
_OF_THE_CLASS = ("SUPPORTED_RESOURCES", "SUPPORTS_CPU_MULTI_THREADING")


class MethodSignature(NamedTuple):
    """How requests for a method are merged: not at all, or along these dimensions, in and out."""

    batchable: bool = False
    batch_dim: tuple[int, int] = (0, 0)


class Runnable:
    """Subclass it, and mark the methods that a runner may call.

    ```python
    class Sentiment(headrace.Runnable):
        SUPPORTED_RESOURCES = ("cpu",)
        SUPPORTS_CPU_MULTI_THREADING = True

        def __init__(self):
            self.analyzer = SentimentIntensityAnalyzer()

        @headrace.Runnable.method(batchable=False)
        def is_positive(self, text):
            return self.analyzer.polarity_scores(text)["compound"] > 0

    sentiment = headrace.Runner(Sentiment, name="sentiment")
    ```

    In a service that is served, a model worker creates one object of it, and calls its methods one
    at a time. The two attributes are kept for readers: how many workers there are is for
    `--parallel-workers` to say, and each sees the machine's GPUs.
    """

    SUPPORTED_RESOURCES: tuple[str, ...] = ("cpu",)
    SUPPORTS_CPU_MULTI_THREADING: bool = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_THE_CLASS:
            raise AttributeError(
                f"{name} is set on the class of a Runnable, not on an object of it"
            )
        super().__setattr__(name, value)

    @staticmethod
    def method(
        function: Callable[..., Any] | None = None,
        *,
        batchable: bool = False,
        batch_dim: int | tuple[int, int] = 0,
        input_spec: Any = None,
        output_spec: Any = None,
    ) -> Any:
        """Mark a method that runners may call; `input_spec` and `output_spec` have no effect.

        If it is `batchable`, arguments of several callers are put together along dimension
        `batch_dim`, or its first item; the answer has their rows along the same, or the second.

        Raises:
            InvalidModel: `batch_dim` is neither a dimension nor two.
        """
        signature = MethodSignature(batchable, _dimensions(batch_dim))

        def mark(function: Callable[..., Any]) -> Callable[..., Any]:
            setattr(function, _MARK, signature)
            return function

        return mark if function is None else mark(function)

    @classmethod
    def add_method(
        cls,
        method: Callable[..., Any],
        name: str,
        *,
        batchable: bool = False,
        batch_dim: int | tuple[int, int] = 0,
        input_spec: Any = None,
        output_spec: Any = None,
    ) -> None:
        """Give the class a method that runners may call; `method` takes the object first.

        Raises:
            InvalidModel: see `method`.
        """
        signature = MethodSignature(batchable, _dimensions(batch_dim))

        @functools.wraps(method)
        def added(self: Any, *args: Any, **kwargs: Any) -> Any:
            return method(self, *args, **kwargs)

        setattr(added, _MARK, signature)
        setattr(cls, name, added)


def signatures_of(cls: type[Runnable]) -> dict[str, MethodSignature]:
    """The methods that runners may call, those of base classes first.

    Raises:
        InvalidModel: it declares no method.
    """
    found: dict[str, MethodSignature] = {}
    for each in reversed(cls.__mro__):
        for name, value in vars(each).items():
            signature = getattr(value, _MARK, None)
            if signature is not None:
                found[name] = signature
            else:
                # A method that is overridden without its mark is not offered any more.
                found.pop(name, None)
    if not found:
        raise InvalidModel(
            f"Runnable '{cls.__name__}' has no method to call; mark one with "
            "@headrace.Runnable.method(batchable=...)"
        )
    return found


def created(cls: type[Runnable], init_params: Mapping[str, Any] | None) -> Runnable:
    """An object of a Runnable's class.

    Raises:
        InvalidModel: its constructor does not take these parameters.
    """
    params = init_params or {}
    try:
        inspect.signature(cls).bind(**params)
    except TypeError as error:
        raise InvalidModel(f"runnable_init_params of '{cls.__name__}': {error}") from None
    return cls(**params)


def call(
    runnable: Any, where: str, method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """The answer of a method, as many rows as it was given if it is batchable; `where` names it.

    `method` has its `name`, and is `batchable` along `batch_dim` or not.

    Raises:
        InvalidInput: the method does not take these arguments.
        BadModelOutput: a batchable method returned another number of rows.
    """
    function = getattr(runnable, method.name)
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidInput(f"{where}: {error}") from None
    answer = function(*args, **kwargs)
    if method.batchable:
        dim_in, dim_out = method.batch_dim
        given = [count_rows(each, dim_in) for each in (*args, *kwargs.values())]
        known = {each for each in given if each is not None}
        rows = count_rows(answer, dim_out)
        if len(known) == 1 and rows not in known:
            raise BadModelOutput(
                f"{where} is batchable, so it returns one row for each that it is given; it was "
                f"given {known.pop()} and returned {'no rows' if rows is None else rows}"
            )
    return answer


def count_rows(value: Any, dim: int) -> int | None:
    """The rows of an array, a table, a list or a dict of these; None for anything else."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return int(shape[dim]) if len(shape) > dim else None
    if isinstance(value, dict):
        counts = {count_rows(each, dim) for each in value.values()}
        return counts.pop() if len(counts) == 1 else None
    if isinstance(value, tuple) and any(hasattr(each, "shape") for each in value):
        return count_rows(dict(enumerate(value)), dim)
    return len(value) if isinstance(value, (list, tuple)) and not dim else None


def _dimensions(given: Any) -> tuple[int, int]:
    try:
        pair = given if isinstance(given, (tuple, list)) else (given, given)
        dim_in, dim_out = map(operator.index, pair)
    except (TypeError, ValueError):
        dim_in = dim_out = -1
    if dim_in < 0 or dim_out < 0:
        raise InvalidModel(
            f"batch_dim: expected a dimension, counted from 0, or a pair of them, got "
            f"{shorten(given)}"
        )
    return dim_in, dim_out

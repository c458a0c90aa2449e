"""Distinguishes input that a model refuses, which is the caller's fault, from its failures.

Only after a call has raised: requests that are answered pay nothing for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Callable

from headrace.errors import HeadraceError, InvalidInput
from headrace.runtimes.expected import Expected, described, not_a_number, not_finite, quoted

# Code of these, and of Python's own modules that they use, refuses input. Other code on the way
# is a user's, and what that raises is the model's failure.
_FRAMEWORKS = {
    *("catboost", "category_encoders", "imblearn", "joblib", "keras", "lightgbm", "mlflow"),
    *("numpy", "pandas", "prophet", "pmdarima", "scipy", "sklearn", "skops", "statsmodels"),
    *("tensorflow", "torch", "xgboost", "_catboost"),
    *("contextlib", "functools", "inspect", "typing", "warnings"),
}
_OURS = "headrace"
# What frameworks raise for input, by name: they are not imported here. All are for other reasons
# as well, which is why it matters who raises.
_KINDS = {
    *("ValueError", "TypeError", "OverflowError", "IndexError", "KeyError"),
    *("CatBoostError", "LightGBMError", "XGBoostError"),
}
# These are errors of such a kind that are never about the input.
_FAILURES = {"NotFittedError", "LinAlgError", "UnicodeError"}
# What they say if any cell at all that is not a number is wrong.
_NUMBERS_ONLY = (
    "dtype='numeric'",
    "arrays of bytes/strings",
    "pandas dtypes must be int",
    "dtypes for data must be int",
    "setting an array element with a sequence",
    "float() argument must be",
)
_NOT_FINITE = re.compile(r"\bnan\b|infinity|\binf\b|missing values", re.IGNORECASE)
_UNKNOWN_CATEGORY = ("unknown categories", "a category not in the training set")


def call(predict: Callable[[Any], Any], value: Any, model: Any = None) -> Any:
    """Call a method of a model of a framework.

    `model` is what says which features it takes; by default, the method's object.

    Raises:
        InvalidInput: the framework refuses the input; the message says what the model takes and
            what it got.
    """
    try:
        return predict(value)
    except Exception as error:
        if not is_of_framework(error):
            raise
        takes = Expected.by(getattr(predict, "__self__", None) if model is None else model)
        raise InvalidInput(_reason(error, value, takes)) from error


def is_of_framework(error: BaseException) -> bool:
    """Whether a framework raised this error of its own accord, possibly because of the input."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if isinstance(error, HeadraceError) or not names & _KINDS or names & _FAILURES:
        return False
    return all(module in _FRAMEWORKS for module in _modules(error))


def _modules(error: BaseException) -> Iterator[str]:
    """The packages whose code was running, from our own call on."""
    frame = error.__traceback__
    modules: list[str] = []
    while frame is not None:
        module = str(frame.tb_frame.f_globals.get("__name__")).partition(".")[0]
        modules = [] if module == _OURS else [*modules, module]
        frame = frame.tb_next
    return iter(modules)


def _reason(error: BaseException, value: Any, takes: Expected) -> str:
    """Why the model refuses the input, without any value of it."""
    if len(getattr(value, "shape", ())) and not value.shape[0]:
        return "the input has no rows, which this model does not take"
    wrong = takes.fault(value)
    if wrong:
        return wrong
    text = str(error)
    if any(words in text for words in _UNKNOWN_CATEGORY):
        where = quoted(value, text) or "a column"
        return f"{where} holds a category that the model does not know"
    if isinstance(error, OverflowError):
        return f"a number is too large for the model, which takes {takes}"
    where = not_a_number(value, text)
    if where and (_quotes_text(text) or any(words in text for words in _NUMBERS_ONLY)):
        return where
    where = not_finite(value)
    if where and _NOT_FINITE.search(text):
        return f"{where} holds NaN (null) or infinity, which this model does not take"
    return f"the model takes {takes}, got {described(value)}"


def _quotes_text(text: str) -> bool:
    return text.startswith("could not convert string to float")

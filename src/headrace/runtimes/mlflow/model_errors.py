"""What the errors that MLflow and its models raise mean to the caller of a model."""

from __future__ import annotations

import builtins
import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any, Callable, NamedTuple, get_args, get_origin

from headrace.errors import HeadraceError, InvalidInput, ModelFailed, shorten
from headrace.protocol.error_table import MODELS_OWN
from headrace.protocol.json_words import wanted, word_of
from headrace.runtimes.expected import described

Validate = Callable[[Any, Any], Any]

logger = logging.getLogger("headrace.worker")

# MLflow's refusals of input begin like this. They quote the data, so only the parts that
# match the patterns below are passed on.
_REFUSALS = (
    "Failed to enforce schema",
    "Failed to enforce model input schema",
    "Failed to validate",
    "Invalid parameters found",
    "Failed to convert",
    "Invalid input",
    # A model with a type hint, sent something other than a list.
    "Expected list, but got",
    "Expected model input to contain",
)
_SAFE = (
    re.compile(r"Model is missing inputs \[[^\]]*\]"),
    re.compile(r"Missing required properties: \{[^}]*\}"),
    re.compile(r"Invalid properties not defined in the schema found: \{[^}]*\}"),
    re.compile(r"Incompatible input types for column [^.]{1,80}\. Can not safely \w+ \S+ to \w+"),
    re.compile(r"Expected list, but got \w+"),
    re.compile(r"Expected data to be [a-z ]{1,40}, got \w+"),
    re.compile(r"for key `[^`]{1,80}`\. Expected type \w+, received type \w+"),
    re.compile(r"Failed to convert column \S{0,80} from type \S{1,40} to \w+\.\w+"),
    re.compile(r"dtype of input \S+ does not match expected dtype \S+"),
    re.compile(r"Shape of input \([^)]*\) does not match expected shape \([^)]*\)"),
)

# Where the wrappers of MLflow's chat models and agents read a request.
_READS_INPUT = "_convert_input"
# Where MLflow checks a list against a model's type hint. Its message has no positions.
_CHECKS_ELEMENTS = "_validate_list_elements"
_WRONG_TYPE = re.compile(
    r"Expected (?:type )?(?P<expected>[\w.]{1,80}), but got (?P<got>[\w.]{1,40})"
)
# Names of types in MLflow's reasons.
_GOT = re.compile(r"\b((?:got|received type) )([\w.]+)")
_EXPECTED = re.compile(r"\b(Expected (?:type |data to be )?)([\w.]+)(?=,|$)")
_NAMES = {"NoneType": type(None), "datetime": datetime}
# What MLflow says before the reason why an object of a chat is refused, with all of the object.
_QUOTED = re.compile(r"\bcoercing .* to (?=\w+:)", re.DOTALL)
_LONGEST = 500


class Takes(NamedTuple):
    """What a model's signature says that it takes: its inputs, in words, and the params' types."""

    inputs: str = "another input"
    params: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def by(cls, metadata: Any) -> Takes:
        """What MLflow's metadata of a model says."""
        inputs, params = metadata.get_input_schema(), metadata.get_params_schema()
        types = [
            f"{'the input' if spec.name is None else repr(shorten(spec.name))} "
            f"({_type_of(spec.type)})"
            for spec in (inputs.inputs if inputs is not None else ())
        ]
        more = f" and {len(types) - 20} more" if len(types) > 20 else ""
        return cls(
            ", ".join(types[:20]) + more or "another input",
            {spec.name: _type_of(spec.dtype) for spec in (params.params if params else ())},
        )


def _type_of(kind: Any) -> str:
    return shorten(getattr(kind, "name", kind), 80)


@contextmanager
def translated(value: Any, params: dict[str, Any] | None, takes: Takes) -> Iterator[None]:
    """Turn what is meant for the caller, or is the caller's fault, into errors of ours.

    `value` and `params` are what the model is called with.
    """
    try:
        yield
    except Exception as error:
        found = error_for_caller(error, value, params, takes)
        if found is None:
            raise
        raise found from error


def error_for_caller(
    error: Exception, value: Any, params: dict[str, Any] | None, takes: Takes
) -> HeadraceError | None:
    """The error for the caller; None if the model has simply failed.

    MLflow refuses input in its own words, of which only those without data are passed on. An
    `MlflowException` that the model's code raises is its answer: status and words are kept.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [str(frame.f_globals.get("__name__")) for frame in frames]
    if any(
        frame.f_code.co_name == _READS_INPUT and _is_mlflows(module)
        for frame, module in zip(frames, modules)
    ):
        return InvalidInput(f"the request is not what the model takes: {_reason(error)}")
    refused = _refused_element(error)
    if refused is not None:
        return refused
    # By name, because MLflow may not be importable where a native model raised.
    if "MlflowException" not in [cls.__name__ for cls in type(error).__mro__]:
        return None
    if modules and not _is_mlflows(modules[-1]):
        return _answer(error)
    return refusal(error, value, params, takes)


def refusal(
    error: Exception, value: Any, params: dict[str, Any] | None, takes: Takes
) -> InvalidInput | None:
    """The error for the caller if MLflow refused the input, without the data that it quotes.

    What requests hold is checked before it gets here, with the place of what does not fit. So this
    is for what only MLflow knows.
    """
    text = str(getattr(error, "message", error))
    found = next((hit for hit in (pattern.search(text) for pattern in _SAFE) if hit), None)
    if text.startswith("Invalid parameters"):
        given = params or {}
        named = [name for name in given if repr(str(name)) in text] or list(given)
        parts = [
            f"param '{shorten(name)}': expected {takes.params.get(name, 'another type')}, "
            f"got {word_of(type(given[name]))}"
            for name in named
        ]
        return InvalidInput("; ".join(parts[:3]))
    if found is None and not text.startswith(_REFUSALS):
        return None
    said = f" ({shorten(_in_json_words(found.group()), 200)})" if found else ""
    return InvalidInput(f"the model takes {takes.inputs}, got {described(value)}{said}")


def _refused_element(error: Exception) -> InvalidInput | None:
    """The refusal of a list that does not match the model's type hint, if it is one.

    What MLflow says of it has the values, and no positions; so its check runs again, element by
    element.
    """
    # MLflow raises some errors again in code that it makes.
    raised = error.__context__ or error
    frames = [frame for frame, _ in traceback.walk_tb(raised.__traceback__)]
    checks = [frame for frame in frames if frame.f_code.co_name == _CHECKS_ELEMENTS]
    raised_in = str(frames[-1].f_globals.get("__name__")) if checks else ""
    if not _is_mlflows(raised_in) and raised_in != "base64":
        return None
    hint, elements = checks[0].f_locals.get("element_type"), checks[0].f_locals.get("data")
    if not isinstance(elements, list):
        return InvalidInput(f"expected a list, got {word_of(type(elements))}")
    validate = checks[0].f_globals["_validate_data_against_type_hint"]
    for position, element in enumerate(elements):
        try:
            validate(element, hint)
        except Exception as refused:
            return InvalidInput(_located(element, hint, refused, validate, f"element {position:,}"))
    return None


def _located(value: Any, hint: Any, error: Exception, validate: Validate, where: str) -> str:
    """The innermost part of a value that does not match its type hint, and why."""
    inner = get_args(hint)
    parts: Iterable[tuple[str, Any]] = ()
    if get_origin(hint) is list and isinstance(value, list):
        parts = ((f"element {index:,}", item) for index, item in enumerate(value))
    elif get_origin(hint) is dict and isinstance(value, dict):
        parts = ((f"key '{shorten(key)}'", item) for key, item in value.items())
    for name, item in parts:
        try:
            validate(item, inner[-1])
        except Exception as refused:
            return _located(item, inner[-1], refused, validate, f"{where}, {name}")
    return f"{where}: {_mismatch(value, hint, error)}"


def _mismatch(element: Any, hint: Any, error: Exception) -> str:
    """Why an element does not match its type hint, without its values."""
    cause = error.__cause__
    if isinstance(cause, Exception) and callable(getattr(cause, "errors", None)):
        # Pydantic's, which MLflow lets convert nothing.
        return _reason(cause)
    found = _WRONG_TYPE.search(str(getattr(error, "message", "")))
    if found:
        return f"expected {_word(found['expected'], wanted)}, got {_word(found['got'], word_of)}"
    expected = wanted(hint) if isinstance(hint, type) else str(hint)
    # Text that cannot be read as a time or as base64.
    got = "other text" if isinstance(error, ValueError) else word_of(type(element))
    return f"expected {shorten(expected, 80)}, got {got}"


def _word(name: str, word: Callable[[type], str]) -> str:
    """The word of JSON for the name of one of Python's types; other names as they are."""
    name = name.rpartition(".")[2]
    kind = _NAMES.get(name) or getattr(builtins, name, None)
    return word(kind) if isinstance(kind, type) else name


def _in_json_words(reason: str) -> str:
    """One of MLflow's reasons, with the words of JSON for the names of Python's types."""
    reason = _GOT.sub(lambda hit: hit[1] + _word(hit[2], word_of), reason)
    return _EXPECTED.sub(lambda hit: hit[1] + _word(hit[2], wanted), reason)


def _is_mlflows(module: str) -> bool:
    return module.partition(".")[0] == "mlflow"


def _answer(error: Any) -> HeadraceError:
    """The error that the model's own code answers with."""
    text = str(getattr(error, "message", error))[:_LONGEST]
    cls = MODELS_OWN.get(error.get_http_status_code())
    if cls is not None:
        return cls(text)
    logger.error("the model failed", exc_info=error)
    return ModelFailed(text)


def _reason(error: Exception) -> str:
    """What is wrong with a request, without its values: pydantic's errors quote them."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        text = _QUOTED.sub("making ", str(getattr(error, "message", error)))
        return shorten(text, 200)
    return "; ".join(_fault(fault) for fault in errors()[:3])


def _fault(fault: dict[str, Any]) -> str:
    """One of pydantic's errors: where it is, without the names of validators, and what."""
    names = [str(part) for part in fault["loc"] if str(part).isidentifier() or type(part) is int]
    # The input of a missing field is the object that lacks it.
    got = "" if fault["type"] == "missing" else f", got {word_of(type(fault.get('input')))}"
    return f"{'.'.join(names)}: {fault['msg']}{got}" if names else f"{fault['msg']}{got}"

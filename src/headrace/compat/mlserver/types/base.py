"""The part of a pydantic model that source written for MLServer relies on, in plain Python."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from headrace.errors import shorten

_Plain = dict[str, Any]
_Self = TypeVar("_Self", bound="BaseModel")

REQUIRED: Any = object()
FLAGS = {"true": True, "1": True, "on": True, "yes": True, "false": False, "0": False}
FLAGS.update({"off": False, "no": False})


class ValidationError(ValueError):
    """A field is missing or has a value that its type does not take."""


class NotOneOf(ValueError):
    """A value is not one of those that exist."""

    def __init__(self, names: Sequence[str]) -> None:
        listed = [f"'{name}'" for name in names]
        expected = f"{', '.join(listed[:-1])} or {listed[-1]}"
        self.detail = {"type": "enum", "ctx": {"expected": expected}}
        super().__init__(f"expected one of {', '.join(names)}")


class Missing(ValueError):
    """A required field is not given."""

    detail: ClassVar[dict[str, Any]] = {"type": "missing"}


def invalid(cls: type, field: str, value: Any, error: Exception) -> ValueError:
    """The error to raise for a field: pydantic's own where the runtime has imported pydantic.

    There, `except pydantic.ValidationError` is how source written for MLServer catches it.
    """
    pydantic = sys.modules.get("pydantic_core")
    if pydantic is None:
        told = error if isinstance(error, Missing) else f": {error}"
        return ValidationError(f"{cls.__name__}: field '{field}'{told}")
    kind = pydantic.PydanticCustomError("value_error", "{reason}", {"reason": str(error)})
    detail = {"type": kind, "loc": (field,), "input": value, **getattr(error, "detail", {})}
    made: ValueError = pydantic.ValidationError.from_exception_data(cls.__name__, [detail])
    return made


def reason(error: Exception) -> str:
    """Why a value is refused, without the value."""
    found = getattr(error, "errors", None)
    if not callable(found):
        return shorten(error, 200)
    first = found()[0]
    where = ".".join(str(part) for part in first["loc"])
    return shorten(f"{where}: {first['msg']}" if where else first["msg"], 200)


class Field(NamedTuple):
    """How one field is checked, and its value when it is not given.

    `convert` returns the value to keep or raises ValueError. A default that is a list or dict is
    copied for each object.
    """

    convert: Callable[[Any], Any]
    default: Any = None


class BaseModel:
    """An object made from keyword arguments, checked by `FIELDS` on creation and assignment.

    With `EXTRA`, anything else may be given as well, and is kept apart: a client chooses those
    names, which must hide neither a method nor what codecs keep in underscored attributes.
    """

    FIELDS: ClassVar[Mapping[str, Field]] = {}
    EXTRA: ClassVar[bool] = False

    def __init__(self, **values: Any) -> None:
        own = self.__dict__
        own["_given"] = given = set()
        for name, field in self.FIELDS.items():
            if name in values:
                own[name] = self._converted(name, field, values.pop(name))
                given.add(name)
            elif field.default is REQUIRED:
                raise invalid(type(self), name, values, Missing(" is required"))
            else:
                default = field.default
                own[name] = copy.copy(default) if isinstance(default, (list, dict)) else default
        own["_extra"] = values if self.EXTRA else {}

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("_extra", {})
        if name.startswith("_") or name not in extra:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        return extra[name]

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        field = self.FIELDS.get(name)
        if field is not None:
            own[name] = self._converted(name, field, value)
            own["_given"].add(name)
        elif name.startswith("_") or isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        elif self.EXTRA:
            own["_extra"][name] = value
        else:
            raise ValueError(f'"{type(self).__name__}" object has no field "{name}"')

    def _converted(self, name: str, field: Field, value: Any) -> Any:
        if value is None and field.default is not REQUIRED:
            return None
        try:
            return field.convert(value)
        except ValidationError:
            raise
        except (TypeError, ValueError) as error:
            if hasattr(error, "errors"):
                # Pydantic's, about a field of a field.
                raise
            raise invalid(type(self), name, value, error) from error

    def _fields(self) -> list[tuple[str, Any]]:
        own = self.__dict__
        return [*((name, own[name]) for name in self.FIELDS), *own["_extra"].items()]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._fields())

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return dict(self._fields()) == dict(other._fields())

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return " ".join(f"{name}={value!r}" for name, value in self._fields())

    def __repr__(self) -> str:
        listed = ", ".join(f"{name}={value!r}" for name, value in self._fields())
        return f"{type(self).__name__}({listed})"

    @property
    def model_fields_set(self) -> set[str]:
        return {*self.__dict__["_given"], *self.__dict__["_extra"]}

    @property
    def model_extra(self) -> _Plain | None:
        return self.__dict__["_extra"] if self.EXTRA else None

    def model_dump(
        self,
        exclude_unset: bool = True,
        exclude_none: bool = True,
        include: Any = None,
        exclude: Any = None,
        **_: Any,
    ) -> _Plain:
        """Plain dicts and lists; `data` stays a list of numbers, text or bytes.

        `include` and `exclude` are names, or what to take or leave out within each, as in
        pydantic.
        """
        given = self.model_fields_set
        return {
            name: _plain(value, exclude_unset, exclude_none, _within(include, name), within)
            for name, value in self._fields()
            if (name in given or not exclude_unset)
            and not (exclude_none and value is None)
            and (include is None or name in include)
            and (within := _within(exclude, name)) is not ...
        }

    def model_dump_json(
        self, exclude_unset: bool = True, exclude_none: bool = True, indent: Any = None, **more: Any
    ) -> str:
        plain = self.model_dump(exclude_unset, exclude_none, **more)
        separators = None if indent else (",", ":")
        return json.dumps(plain, default=_json, indent=indent, separators=separators)

    def dict(self, **options: Any) -> _Plain:
        return self.model_dump(**{"exclude_unset": False, "exclude_none": False, **options})

    def json(self, **options: Any) -> str:
        return self.model_dump_json(**{"exclude_unset": False, "exclude_none": False, **options})

    def model_copy(self: _Self, *, update: Any = None, deep: bool = False) -> _Self:
        made = copy.deepcopy(self) if deep else copy.copy(self)
        if not deep:
            made.__dict__["_given"] = set(self.__dict__["_given"])
            made.__dict__["_extra"] = dict(self.__dict__["_extra"])
        for name, value in (update or {}).items():
            setattr(made, name, value)
        return made

    copy = model_copy

    @classmethod
    def model_validate(cls: type[_Self], obj: Any, **_: Any) -> _Self:
        """Make it from a dict, such as a parsed JSON object."""
        return obj if isinstance(obj, cls) else cls(**obj)

    @classmethod
    def model_validate_json(cls: type[_Self], json_data: str | bytes, **_: Any) -> _Self:
        return cls.model_validate(json.loads(json_data))

    @classmethod
    def parse_file(cls: type[_Self], path: str | os.PathLike[str], **_: Any) -> _Self:
        """Make it from a JSON file."""
        with open(path, "rb") as file:
            return cls.model_validate_json(file.read())

    @classmethod
    def model_construct(cls: type[_Self], **values: Any) -> _Self:
        return cls(**values)

    @classmethod
    def parse_obj(cls: type[_Self], obj: Any, **_: Any) -> _Self:
        return cls.model_validate(obj)

    @classmethod
    def parse_raw(cls: type[_Self], b: str | bytes, **_: Any) -> _Self:
        return cls.model_validate_json(b)

    construct = model_construct


def _within(chosen: Any, name: Any) -> Any:
    """What is chosen of a member: `...` for all of it, None for nothing in particular.

    `__all__` stands for every item of a list.
    """
    if not chosen or (name not in chosen and not (isinstance(name, int) and "__all__" in chosen)):
        return None
    if not isinstance(chosen, Mapping):
        return ...
    part = chosen.get(name, chosen.get("__all__"))
    return ... if part is True else part


def _plain(
    value: Any, exclude_unset: bool, exclude_none: bool, include: Any = None, exclude: Any = None
) -> Any:
    include = None if include is ... else include
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset, exclude_none, include, exclude)
    if hasattr(value, "root"):
        return value.root
    if isinstance(value, (list, dict)):
        items = enumerate(value) if isinstance(value, list) else value.items()
        kept = {
            key: _plain(item, exclude_unset, exclude_none, _within(include, key), within)
            for key, item in items
            if (include is None or _within(include, key) is not None)
            and (within := _within(exclude, key)) is not ...
        }
        return list(kept.values()) if isinstance(value, list) else kept
    return value


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def text(value: Any) -> str:
    """Require text."""
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}")
    return value


def flag(value: Any) -> bool:
    """Require true or false, or a text that says so, as in a variable of the environment."""
    found = FLAGS.get(value.lower()) if isinstance(value, str) else value
    if found not in (True, False):
        raise ValueError("expected true or false")
    return bool(found)


def anything(value: Any) -> Any:
    """Accept any value."""
    return value


def mapping(value: Any) -> dict[Any, Any]:
    """Require a dict."""
    if not isinstance(value, dict):
        raise ValueError(f"expected a dict, got {type(value).__name__}")
    return value


def list_of(convert: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """Require a list or tuple and convert its items."""

    def converted(value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"expected a list, got {type(value).__name__}")
        return [convert(item) for item in value]

    return converted


def instance_of(cls: type[BaseModel]) -> Callable[[Any], Any]:
    """Require an instance, or a dict to make one from."""

    def converted(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        return cls.model_validate(mapping(value))

    return converted

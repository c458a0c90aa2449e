"""Types of JSON values: what an annotation accepts, checked without any library where it can be.

A form converts a value that JSON held, and has a JSON schema. pydantic models and msgspec structs
are forms by their own libraries, which are imported only if such a class is named.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.codecs.hints import expanded
from headrace.errors import InvalidInput, shorten
from headrace.io.descriptor import kind_of

_REFERENCE = "#/components/schemas/"
_MOST_FAULTS = 5
_UNIONS = (typing.Union, getattr(types, "UnionType", typing.Union))


class NoForm(TypeError):
    """An annotation that JSON values cannot be checked against."""


class Form:
    """Any JSON value, as it is."""

    schema: dict[str, Any] = {}

    def convert(self, value: Any, where: str) -> Any:
        """The value as the annotated type.

        Raises:
            InvalidInput: it is of another type; `where` is extended by the place in it.
        """
        return value

    def parts(self) -> Iterator[Form]:
        """The forms of its elements."""
        return iter(())

    def components(self) -> dict[str, Any]:
        """The schemas that its own refers to, by name."""
        return {name: one for part in self.parts() for name, one in part.components().items()}


class Scalar(Form):
    """One of JSON's own types; an integer is a number too, and a boolean is neither."""

    def __init__(self, cls: type | None, kinds: tuple[str, ...]) -> None:
        self.cls, self.kinds = cls, kinds
        self.schema = {"type": kinds[0]}

    def convert(self, value: Any, where: str) -> Any:
        kind = kind_of(value)
        if kind not in self.kinds:
            raise InvalidInput(f"{where}: expected {self.kinds[0]}, got {kind}")
        return float(value) if self.cls is float and abs(value) < 2**1023 else value


class Items(Form):
    """An array whose elements have one form."""

    def __init__(self, cls: type, item: Form) -> None:
        self.cls, self.item = cls, item
        self.schema = {"type": "array", "items": item.schema}

    def convert(self, value: Any, where: str) -> Any:
        if not isinstance(value, list):
            raise InvalidInput(f"{where}: expected array, got {kind_of(value)}")
        if type(self.item) is not Form:
            value = [
                self.item.convert(each, _inside(where, f"[{index}]"))
                for index, each in enumerate(value)
            ]
        return value if self.cls is list else self.cls(value)

    def parts(self) -> Iterator[Form]:
        yield self.item


class Members(Form):
    """An object whose members have one form."""

    def __init__(self, item: Form) -> None:
        self.item = item
        self.schema = {"type": "object", "additionalProperties": item.schema or True}

    def convert(self, value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise InvalidInput(f"{where}: expected object, got {kind_of(value)}")
        if type(self.item) is Form:
            return value
        return {
            key: self.item.convert(each, _inside(where, f".{shorten(key)}"))
            for key, each in value.items()
        }

    def parts(self) -> Iterator[Form]:
        yield self.item


class OneOf(Form):
    """The first of several forms that takes the value."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self.forms = list(forms)
        self.schema = {"anyOf": [form.schema for form in self.forms]}

    def convert(self, value: Any, where: str) -> Any:
        faults = []
        for form in self.forms:
            try:
                return form.convert(value, where)
            except InvalidInput as error:
                faults.append(error)
        others = [
            form for form in self.forms if not (isinstance(form, Scalar) and "null" in form.kinds)
        ]
        if len(others) == 1:
            raise faults[self.forms.index(others[0])]
        words = [str(form.schema.get("type", "value")) for form in self.forms]
        raise InvalidInput(f"{where}: expected {' or '.join(words)}, got {kind_of(value)}")

    def parts(self) -> Iterator[Form]:
        yield from self.forms


class Choice(Form):
    """One of the values of a `Literal`."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = list(values)
        self.schema = {"enum": self.values}

    def convert(self, value: Any, where: str) -> Any:
        if not any(value == each and kind_of(value) == kind_of(each) for each in self.values):
            words = ", ".join(repr(each) for each in self.values)
            raise InvalidInput(f"{where}: expected one of {words}")
        return value


class Named(Form):
    """A form whose schema is among the components, under the name of its class."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.name = cls.__name__
        self.schema = {"$ref": _REFERENCE + self.name}


class DataclassForm(Named):
    """An object with the fields of a dataclass; members that it does not have are refused."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        hints = typing.get_type_hints(cls, include_extras=True)
        fields = [field for field in dataclasses.fields(cls) if field.init]
        self.fields = {field.name: form_of(hints[field.name]) for field in fields}
        missing = dataclasses.MISSING
        self.required = [
            field.name
            for field in fields
            if field.default is missing and field.default_factory is missing
        ]

    def convert(self, value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise InvalidInput(f"{where}: expected object, got {kind_of(value)}")
        for name in self.required:
            if name not in value:
                raise InvalidInput(f"{_inside(where, f'.{name}')} is missing")
        for name in value:
            if name not in self.fields:
                raise InvalidInput(f"{_inside(where, f'.{shorten(name)}')} is not expected")
        return self.cls(
            **{
                name: self.fields[name].convert(each, _inside(where, f".{name}"))
                for name, each in value.items()
            }
        )

    def parts(self) -> Iterator[Form]:
        yield from self.fields.values()

    def components(self) -> dict[str, Any]:
        properties = {name: form.schema for name, form in self.fields.items()}
        own = {"type": "object", "properties": properties, "required": self.required}
        return {**super().components(), self.name: own}


class PydanticForm(Named):
    """A pydantic model, of version 2 or 1."""

    def convert(self, value: Any, where: str) -> Any:
        if isinstance(value, self.cls):
            return value
        parse = getattr(self.cls, "model_validate", None) or self.cls.parse_obj
        try:
            return parse(value)
        except ValueError as error:
            errors = getattr(error, "errors", list)
            raise InvalidInput(_faults(where, self.name, errors())) from None

    def components(self) -> dict[str, Any]:
        template = _REFERENCE + "{model}"
        if hasattr(self.cls, "model_json_schema"):
            schema = dict(self.cls.model_json_schema(ref_template=template))
        else:
            schema = dict(self.cls.schema(ref_template=template))
        inner = {**schema.pop("$defs", {}), **schema.pop("definitions", {})}
        # A model that contains itself is among its own definitions, and refers to them.
        return inner if self.name in inner else {**inner, self.name: schema}


class StructForm(Named):
    """A msgspec struct."""

    def convert(self, value: Any, where: str) -> Any:
        if isinstance(value, self.cls):
            return value
        import msgspec

        try:
            return msgspec.convert(value, self.cls)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{where} is not a {self.name}: {shorten(error, 200)}") from None

    def components(self) -> dict[str, Any]:
        import msgspec

        _, found = msgspec.json.schema_components([self.cls], ref_template=_REFERENCE + "{name}")
        return dict(found)


_SCALARS: dict[Any, tuple[str, ...]] = {
    int: ("integer",),
    float: ("number", "integer"),
    str: ("string",),
    bool: ("boolean",),
    None: ("null",),
    type(None): ("null",),
}


def form_of(hint: Any) -> Form:
    """The form of values that an annotation describes.

    Raises:
        NoForm: it describes no JSON value, or one that is not checked here.
    """
    hint = expanded(hint)
    if hint is Any or hint is object:
        return Form()
    if hint in _SCALARS:
        return Scalar(hint, _SCALARS[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return form_of(arguments[0])
    if origin in _UNIONS:
        return OneOf([form_of(each) for each in arguments])
    if origin is typing.Literal:
        return Choice(arguments)
    plain = origin or hint
    if not isinstance(plain, type):
        raise NoForm(f"{hint!r} has no form in JSON")
    if issubclass(plain, Mapping):
        if arguments and arguments[0] not in (str, Any):
            raise NoForm(f"{hint!r}: the keys of a JSON object are str")
        return Members(form_of(arguments[1]) if arguments else Form())
    if plain in (list, tuple, set, frozenset, Sequence):
        kept = list if plain is Sequence else plain
        if plain is tuple and arguments and arguments[1:] != (...,):
            raise NoForm(f"{hint!r}: a tuple of fixed length is not checked, use list")
        return Items(kept, form_of(arguments[0]) if arguments else Form())
    return _of_class(plain, hint)


def _of_class(cls: Any, hint: Any) -> Form:
    if hasattr(cls, "model_validate") or hasattr(cls, "parse_obj"):
        return PydanticForm(hint if hasattr(hint, "__name__") else cls)
    if hasattr(cls, "__struct_fields__"):
        return StructForm(cls)
    if dataclasses.is_dataclass(cls):
        return DataclassForm(cls)
    raise NoForm(f"{shorten(getattr(cls, '__name__', cls))} has no form in JSON")


def _inside(where: str, step: str) -> str:
    """A place in a value: `argument 'x'[0]`, or `the body at [0]`."""
    joined = where.endswith(("'", "]")) or " at " in where
    return f"{where}{step}" if joined else f"{where} at {step}"


def _faults(where: str, name: str, faults: Sequence[Mapping[str, Any]]) -> str:
    """The first faults that pydantic found, by their place."""
    shown = []
    for fault in list(faults)[:_MOST_FAULTS]:
        place = ".".join(shorten(step) for step in fault.get("loc", ()))
        words = shorten(fault.get("msg", "not accepted"), 120)
        shown.append(f"{place}: {words}" if place else words)
    more = f" and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
    return f"{where} is not a {name}: {'; '.join(shown) or 'not accepted'}{more}"

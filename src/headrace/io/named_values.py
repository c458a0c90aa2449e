"""Several values at once, by name: the parts of a form, or the members of a JSON object."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from headrace.codecs import jsontext
from headrace.errors import BadModelOutput, InvalidInput, listing, shorten
from headrace.io import json_body
from headrace.io.descriptor import (
    BODY,
    Descriptor,
    Encoded,
    check_media_type,
    kind_of,
    may_be_json,
    media_type_of,
    refuse_output,
)
from headrace.io.samples import descriptor_of_sample
from headrace.io.uploaded_file import FORM, form_parts


class NamedValues(Descriptor):
    """What `Multipart` and `Arguments` share: a descriptor by name, some of them optional."""

    by_name: ClassVar[bool] = True

    def __init__(self, fields: Mapping[str, Descriptor], optional: Iterable[str] = ()) -> None:
        for name, descriptor in fields.items():
            if not isinstance(descriptor, Descriptor):
                raise TypeError(f"'{name}': expected a descriptor, got {descriptor!r}")
            if descriptor.by_name:
                raise TypeError(f"'{name}': a {type(descriptor).__name__} cannot be inside another")
        self.fields = dict(fields)
        self.optional = frozenset(optional)
        examples = {name: each.example for name, each in self.fields.items()}
        if fields and None not in examples.values():
            self.example = examples

    def _check_names(self, names: Iterable[str], where: str, what: str) -> None:
        names = list(names)
        unknown = [name for name in names if name not in self.fields]
        if unknown:
            raise InvalidInput(
                f"{where}: {what} {listing(unknown)} not expected, expected "
                f"{listing(list(self.fields)) or 'none'}"
            )
        missing = [name for name in self.fields if name not in names and name not in self.optional]
        if missing:
            raise InvalidInput(
                f"{where}: {what} {listing(missing)} missing, got {listing(names) or 'none'}"
            )

    def release(self, value: Any) -> None:
        """Release each value."""
        for name, each in value.items():
            self.fields[name].release(each)

    def openapi_schema(self) -> dict[str, Any]:
        """An object with a property for each field."""
        properties = {name: each.openapi_schema() for name, each in self.fields.items()}
        required = [name for name in self.fields if name not in self.optional]
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        return {**schema, "required": required} if required else schema

    def openapi_components(self) -> dict[str, Any]:
        """The components of all fields."""
        found: dict[str, Any] = {}
        for each in self.fields.values():
            found.update(each.openapi_components())
        return found

    def _openapi_media(self, media_type: str) -> dict[str, Any]:
        media: dict[str, Any] = {"schema": self.openapi_schema()}
        if self.example is not None:
            media["example"] = self.example
        return media

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={each!r}" for name, each in self.fields.items())
        return f"{type(self).__name__}({inner})"


class Multipart(NamedValues):
    """A form with one part for each field, given to the endpoint as keyword arguments.

    Raises:
        TypeError: a field is not a descriptor, or a `Multipart`.
    """

    content_types = (FORM,)
    content_type = FORM

    def __init__(self, **fields: Descriptor) -> None:
        super().__init__(fields)

    @classmethod
    def from_sample(cls, sample: Mapping[str, Any]) -> Multipart:
        """A form of parts like those of `sample`, each by the descriptor for its type."""
        return cls(**{name: descriptor_of_sample(each) for name, each in sample.items()})

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The values of a form by name."""
        check_media_type(media_type_of(headers), self.content_types, where)
        parts = form_parts(body, headers)
        names = [part.name or "" for part in parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInput(f"{where}: the form has several parts {listing(twice)}")
        self._check_names(names, where, "part")
        found: dict[str, Any] = {}
        try:
            for name, part in zip(names, parts):
                found[name] = self._part(name, part)
        except BaseException:
            self.release(found)
            raise
        return found

    def _part(self, name: str, part: Any) -> Any:
        headers = {"content-type": part.media_type or ""}
        if part.filename:
            headers["x-filename"] = part.filename
        return self.fields[name].decode(part.content(), headers, f"part '{shorten(name)}'")

    def encode(self, value: Any) -> Encoded:
        """A dict of values as a form."""
        if not isinstance(value, Mapping):
            raise refuse_output("a dict", value)
        if set(value) != set(self.fields):
            raise BadModelOutput(
                f"the endpoint returned {listing(sorted(map(str, value)))}, expected "
                f"{listing(sorted(self.fields))}"
            )
        boundary = secrets.token_hex(16)
        pieces = []
        for name, descriptor in self.fields.items():
            one = descriptor.encode(value[name])
            disposition = f'form-data; name="{_quoted(name)}"'
            if descriptor.is_binary:
                disposition += f'; filename="{_quoted(name)}"'
            head = f"Content-Disposition: {disposition}\r\nContent-Type: {one.content_type}"
            pieces.append(f"--{boundary}\r\n{head}\r\n\r\n".encode() + one.body + b"\r\n")
        pieces.append(f"--{boundary}--\r\n".encode())
        return Encoded(b"".join(pieces), f"{FORM}; boundary={boundary}")


def _quoted(name: str) -> str:
    """A name inside quotes, as browsers escape it."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


class Arguments(NamedValues):
    """A JSON object with a member for each parameter of an endpoint; without any, no body at all.

    Members for `optional` parameters may be left out.

    Raises:
        TypeError: a field is not a descriptor, or one without a form in JSON.
    """

    content_types = ("application/json",)
    content_type = "application/json"

    def __init__(self, fields: Mapping[str, Descriptor], optional: Iterable[str] = ()) -> None:
        super().__init__(fields, optional)
        binary = [name for name, each in self.fields.items() if each.is_binary]
        if binary:
            raise TypeError(f"{listing(binary)} cannot be inside JSON, use Multipart")

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The arguments by name."""
        if not body.strip() and self.optional.issuperset(self.fields):
            return {}
        if not may_be_json(headers.get("content-type", "")):
            check_media_type(media_type_of(headers), self.content_types, where)
        return self.decode_json(json_body.loads(body, where), where)

    def decode_json(self, value: Any, where: str) -> Any:
        """The arguments of an object."""
        if not isinstance(value, dict):
            raise InvalidInput(
                f"{where}: expected an object with {listing(list(self.fields)) or 'no members'}, "
                f"got {kind_of(value)}"
            )
        self._check_names(value, where, "argument")
        return {
            name: self.fields[name].decode_json(each, f"argument '{name}'")
            for name, each in value.items()
        }

    def encode(self, value: Any) -> Encoded:
        """A dict of values as an object."""
        return Encoded(jsontext.dumps(value, "the answer"), self.content_type)

    def openapi_request(self) -> dict[str, Any]:
        """A body that may be left out if all arguments may."""
        found = super().openapi_request()
        return {**found, "required": not self.optional.issuperset(self.fields)}

"""Any value that JSON can hold, checked by a model where one is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headrace.codecs import jsontext
from headrace.errors import BadModelOutput
from headrace.io import json_body
from headrace.io.descriptor import (
    BODY,
    Descriptor,
    Encoded,
    check_media_type,
    may_be_json,
    media_type_of,
)
from headrace.io.json_forms import Form, form_of


class JSON(Descriptor):
    """A JSON value.

    `pydantic_model` is what a request must match: a pydantic model or a msgspec struct, or any
    other annotation such as `list[int]`; the endpoint gets the model's object, or with
    `validate_json=False` what JSON held. `json_encoder` is a subclass of `json.JSONEncoder` for
    answers. Without it, arrays, frames, models, dataclasses, dates and bytes (as base64) have a
    form, and NaN is null.

    Raises:
        TypeError: `pydantic_model` describes no JSON value.
    """

    content_types = ("application/json",)
    content_type = "application/json"

    def __init__(
        self,
        pydantic_model: Any = None,
        validate_json: bool = True,
        json_encoder: type[json.JSONEncoder] | None = None,
    ) -> None:
        self.form = Form() if pydantic_model is None else form_of(pydantic_model)
        self.validate_json = validate_json is not False
        self.json_encoder = json_encoder

    @classmethod
    def from_sample(
        cls,
        sample: Any,
        pydantic_model: Any = None,
        validate_json: bool = True,
        json_encoder: type[json.JSONEncoder] | None = None,
    ) -> JSON:
        """A descriptor with an example; a model's object gives its class as the model too.

        A text is read as JSON, bytes as well.
        """
        if isinstance(sample, (str, bytes)):
            sample = json.loads(sample)
        modelled = hasattr(sample, "__struct_fields__") or any(
            hasattr(type(sample), name) for name in ("model_validate", "parse_obj")
        )
        if pydantic_model is None and modelled:
            pydantic_model = type(sample)
        made = cls(pydantic_model, validate_json, json_encoder)
        made.example = json.loads(made.encode(sample).body)
        return made

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The value in a body, as the model's object where one is given."""
        if not may_be_json(headers.get("content-type", "")):
            check_media_type(media_type_of(headers), self.content_types, where)
        return self.decode_json(json_body.loads(body, where), where)

    def decode_json(self, value: Any, where: str) -> Any:
        """The value, checked by the model."""
        return self.form.convert(value, where) if self.validate_json else value

    def encode(self, value: Any) -> Encoded:
        """The value as compact UTF-8 JSON."""
        if self.json_encoder is None:
            return Encoded(jsontext.dumps(value, "the answer"), self.content_type)
        try:
            text = json.dumps(
                value,
                cls=self.json_encoder,
                ensure_ascii=False,
                allow_nan=False,
                separators=(",", ":"),
            )
            return Encoded(text.encode("utf-8"), self.content_type)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadModelOutput("the answer: a value of it has no JSON form") from error

    def openapi_schema(self) -> dict[str, Any]:
        """The schema of the model; anything without one."""
        return self.form.schema

    def openapi_components(self) -> dict[str, Any]:
        """The model's schema, and those that it refers to."""
        return self.form.components()

    def __repr__(self) -> str:
        return f"JSON({getattr(self.form, 'name', '')})"

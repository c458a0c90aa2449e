"""Plugins as models: payloads in, answers and their media types out, all in BYTES tensors."""

from __future__ import annotations

import inspect
import io
import json
import math
import os
import re
import sys
from collections.abc import Awaitable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from headrace.codecs import bytes_elements
from headrace.codecs.image import FORMATS, MAX_PIXELS
from headrace.errors import (
    BadModelOutput,
    HeadraceError,
    InvalidInput,
    InvalidModel,
    ModelFailed,
    UnsupportedMedia,
    listing,
    shorten,
)
from headrace.model import Model
from headrace.plugins.base import BasePlugin
from headrace.protocol.media_types import GIVEN, TAKEN, essence, takes
from headrace.protocol.messages import (
    PAYLOAD_TYPE,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.runtimes.plugin import plugin_answers
from headrace.settings import ModelSettings

INPUT = "payload"
ANSWER = "answer"
CONTENT_TYPE = "content_type"
OUTPUTS = (ANSWER, CONTENT_TYPE)
REQUIRED = ("load_model", "predict", "request_content_type")


def is_plugin(cls: Any) -> bool:
    """Whether a class is a plugin: it has a `load_model`, but need not extend `BasePlugin`."""
    is_model = callable(getattr(cls, "infer", None))
    return isinstance(cls, type) and callable(getattr(cls, "load_model", None)) and not is_model


class PluginRuntime(Model):
    """Serves one plugin. Each element of its only input is a separate payload."""

    platform = "plugin"

    def __init__(self, settings: ModelSettings, plugin: BasePlugin) -> None:
        super().__init__(settings)
        self._plugin = plugin
        batch = getattr(type(plugin), "predict_batch", BasePlugin.predict_batch)
        self.row_independent = batch is not BasePlugin.predict_batch

    @classmethod
    def of(cls, plugin: type[BasePlugin], settings: ModelSettings) -> PluginRuntime:
        """The model that serves a plugin class.

        Raises:
            InvalidModel: the class lacks methods; the message names each.
        """
        abstract = getattr(plugin, "__abstractmethods__", ())
        missing = [
            name
            for name in REQUIRED
            if name in abstract or not callable(getattr(plugin, name, None))
        ]
        if missing:
            raise InvalidModel(
                f"plugin '{shorten(settings.implementation)}' does not define "
                f"{' and '.join(missing)}"
            )
        return cls(settings, plugin())

    def load(self) -> Any:
        """Load the plugin's model, and read its media types.

        Raises:
            InvalidModel: there is nothing at the model's uri, or a media type is not valid.
        """
        uri = self.settings.uri or self.settings.folder
        if not os.path.exists(uri):
            raise InvalidModel(f"model '{self.settings.name}': there is nothing at its uri")
        loaded = self._plugin.load_model(uri)
        return self._ready_later(loaded) if inspect.isawaitable(loaded) else self._ready(loaded)

    def metadata(self) -> ModelMetadata:
        parameters = {PAYLOAD_TYPE: self._takes}
        if self._gives is not None:
            parameters["response_content_type"] = self._gives
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=[TensorMetadata(INPUT, "BYTES", [-1], {"content_type": self._takes})],
            outputs=[TensorMetadata(name, "BYTES", [-1]) for name in OUTPUTS],
            parameters=parameters,
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> Any:
        """Answer every payload with an element of `answer` and one of `content_type`.

        Raises:
            InvalidInput: the request is not one BYTES input of payloads, or the plugin cannot
                read one of them, or it is empty.
            UnsupportedMedia: the input's `content_type` is another media type.
            BadModelOutput: what the plugin returned cannot be sent.
        """
        wanted = _wanted(request)
        payloads = self._payloads(request)
        with self._reading(payloads):
            answers = self._predict(payloads)
        # Answers have the shape of the payloads, so that they fit the rows of a merged batch.
        shape = request.inputs[0].shape or [1]
        if inspect.isawaitable(answers):
            return self._awaited(answers, payloads, shape, wanted)
        return self._respond(answers, shape, wanted)

    def _ready(self, loaded: Any) -> None:
        self._model = loaded
        self._takes = _media_type(self._plugin, "request_content_type", TAKEN)
        self._gives = None
        method = getattr(self._plugin, "response_content_type", None)
        if method is not None and (not callable(method) or method() is not None):
            self._gives = _media_type(self._plugin, "response_content_type", GIVEN)

    async def _ready_later(self, loaded: Awaitable[Any]) -> None:
        self._ready(await loaded)

    def _payloads(self, request: InferenceRequest) -> list[bytes]:
        if len(request.inputs) != 1:
            names = listing([tensor.name for tensor in request.inputs])
            raise InvalidInput(f"expected one BYTES input of payloads, got inputs {names}")
        tensor = request.inputs[0]
        where = f"input '{shorten(tensor.name)}'"
        kind = tensor.content_type or request.content_type or ""
        if "/" in kind and not takes(self._takes, kind):
            raise UnsupportedMedia(
                f"{where}: model '{self.settings.name}' takes {self._takes}, "
                f"got content type '{shorten(kind)}'"
            )
        payloads = (
            bytes_elements.decode(tensor, kind) if kind == "base64" else bytes_elements.raw(tensor)
        )
        if not all(payloads):
            raise InvalidInput(f"{where}: payload {payloads.index(b'')} is empty")
        if not payloads:
            raise InvalidInput(f"{where}: expected at least one payload")
        return payloads

    def _predict(self, payloads: list[bytes]) -> Any:
        if self.row_independent:
            # A copy, because a plugin may sort or empty the list.
            return self._plugin.predict_batch(self._model, list(payloads))
        answers = (self._plugin.predict(self._model, payload) for payload in payloads)
        first = next(answers)
        return _each(first, answers) if inspect.isawaitable(first) else [first, *answers]

    async def _awaited(
        self,
        answers: Awaitable[Any],
        payloads: list[bytes],
        shape: Sequence[int],
        wanted: list[str],
    ) -> InferenceResponse:
        with self._reading(payloads):
            found = await answers
        return self._respond(found, shape, wanted)

    def _respond(self, answers: Any, shape: Sequence[int], wanted: list[str]) -> InferenceResponse:
        name = self.settings.name
        expected = math.prod(shape)
        is_scalar = isinstance(answers, np.ndarray) and not answers.ndim
        if is_scalar or not isinstance(answers, (list, tuple, np.ndarray)):
            raise BadModelOutput(
                f"predict_batch of model '{name}' returned {shorten(type(answers).__name__)}, "
                "expected a list"
            )
        if len(answers) != expected:
            raise BadModelOutput(
                f"predict_batch of model '{name}' returned {len(answers)} answers for "
                f"{expected} payloads"
            )
        rows = self._encode_rows(answers)
        columns = {
            ANSWER: [row[0] for row in rows],
            CONTENT_TYPE: [row[1].encode() for row in rows],
        }
        return InferenceResponse(
            [Tensor(title, "BYTES", list(shape), pack_bytes(columns[title])) for title in wanted]
        )

    def _encode_rows(self, answers: Any) -> list[tuple[bytes, str]]:
        try:
            return [
                plugin_answers.encode(answer, self._gives, self.settings.name) for answer in answers
            ]
        except BadModelOutput as error:
            if len(answers) == 1:
                raise
            # A batch that fails like this runs again one by one, so that only the bad answer fails.
            raise ModelFailed(error.message) from error

    @contextmanager
    def _reading(self, payloads: list[bytes]) -> Generator[None, None, None]:
        """Distinguish a payload that the plugin cannot read from a plugin that fails."""
        try:
            yield
        except HeadraceError:
            # The plugin chose its own message.
            raise
        except Exception as error:
            what = _misread(error, payloads, essence(self._takes))
            if what is None:
                raise
            name = self.settings.name
            raise InvalidInput(f"the payload is not {what} that model '{name}' can read") from error


def _media_type(plugin: BasePlugin, name: str, form: re.Pattern[str]) -> str:
    method = getattr(plugin, name)
    if not callable(method):
        raise InvalidModel(
            f"{name} of the plugin is {shorten(type(method).__name__)}, expected a method"
        )
    found = method()
    if not isinstance(found, str) or not form.fullmatch(found):
        raise InvalidModel(
            f"{name}() of the plugin returned {shorten(repr(found))}, expected a media type "
            "such as 'application/json'"
        )
    return found


def _wanted(request: InferenceRequest) -> list[str]:
    for name in request.outputs or ():
        if name not in OUTPUTS:
            raise InvalidInput(
                f"output '{shorten(name)}' is not available, this model has {listing(OUTPUTS)}"
            )
    return list(request.outputs or OUTPUTS)


async def _each(first: Awaitable[Any], others: Iterator[Awaitable[Any]]) -> list[Any]:
    return [await first, *[await answer for answer in others]]


def _misread(error: Exception, payloads: list[bytes], takes: str) -> str | None:
    """What a payload could not be read as; None if the payloads are not at fault."""
    if isinstance(error, UnicodeDecodeError):
        return "UTF-8 text" if error.object in payloads else None
    if isinstance(error, json.JSONDecodeError):
        texts = (payload.decode("utf-8", "replace") for payload in payloads)
        return "JSON" if error.doc in texts else None
    # Readers such as pandas' raise unspecific errors, so the payloads themselves are checked.
    if takes == "application/json" and not all(map(_is_json, payloads)):
        return "JSON"
    # Pillow's own class, by name: the worker must not import Pillow for this.
    if type(error).__name__ == "UnidentifiedImageError":
        return "an image"
    return "a whole image" if any(map(_is_damaged_image, payloads)) else None


def _is_json(payload: bytes) -> bool:
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return True


def _is_damaged_image(payload: bytes) -> bool:
    """Whether Pillow recognizes an image by its first bytes, but cannot read the rest of it."""
    pillow = sys.modules.get("PIL.Image")
    if pillow is None:
        return False
    try:
        image = pillow.open(io.BytesIO(payload), formats=FORMATS)
        if image.width * image.height <= MAX_PIXELS:
            image.load()
    except pillow.UnidentifiedImageError:
        return False
    # A damaged header, and a size that Pillow refuses to read, make `open` itself fail.
    except Exception:
        return True
    return False

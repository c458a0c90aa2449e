"""`BasePlugin`, the base class of plugins, whose payloads are neither tensors nor tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class BasePlugin(ABC):
    """Loads a model and scores payloads with it: the bytes of a request as they were sent.

    Everything runs in a worker process. `load_model`, `predict` and `predict_batch` may be
    plain functions or coroutines. Raise `headrace.InvalidInput` for an invalid payload: the
    caller gets its message. Any other exception is only logged.
    """

    @abstractmethod
    def load_model(self, model_uri: str) -> Any:
        """Return the model in `model_uri`, the local path of its file or folder.

        A remote model has already been downloaded to that path.
        """

    @abstractmethod
    def predict(self, model: Any, data: bytes) -> Any:
        """Return the answer to one payload; `model` is what `load_model` returned.

        Text and bytes are sent as they are; arrays, tables, dicts, lists and numbers as JSON;
        and Pillow images as PNG, or as the type that `response_content_type` returns.
        """

    @abstractmethod
    def request_content_type(self) -> str:
        """Return the media type of payloads, such as `image/png`; `image/*` takes every image."""

    def response_content_type(self) -> str | None:
        """Return the media type of answers, or None to derive it from what `predict` returned."""
        return None

    def predict_batch(self, model: Any, data: list[bytes]) -> Any:
        """Return the answers to several payloads, as a list of the same length and order.

        A plugin that has this method gets concurrent requests in batches; its `predict` is
        never called.
        """
        raise NotImplementedError(f"{type(self).__name__} has no predict_batch")

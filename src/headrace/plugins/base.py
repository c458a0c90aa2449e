"""`BasePlugin`, the class of those who score payloads that are no tensors and no tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class BasePlugin(ABC):
    """Loads a model, and scores payloads with it: the bytes of a request as they came.

    Everything runs in a worker process. `load_model`, `predict` and `predict_batch` may be
    plain functions or coroutines. Raise `headrace.InvalidInput` for a payload that is not what
    it should be: the caller gets its message. All else that is raised goes to the log only.
    """

    @abstractmethod
    def load_model(self, model_uri: str) -> Any:
        """The model; `model_uri` is the local path of its file or folder, fetched if need be."""

    @abstractmethod
    def predict(self, model: Any, data: bytes) -> Any:
        """The answer to one payload; `model` is what `load_model` returned.

        Text and bytes are sent as they are, arrays, tables, dicts, lists and numbers as JSON,
        and Pillow images as PNG or as what `response_content_type` says.
        """

    @abstractmethod
    def request_content_type(self) -> str:
        """The media type of payloads, such as `image/png`; `image/*` takes every image."""

    def response_content_type(self) -> str | None:
        """The media type of answers; None tells it from what `predict` returned."""
        return None

    def predict_batch(self, model: Any, data: list[bytes]) -> Any:
        """The answers to several payloads, as a list of the same length and order.

        A plugin that has this method gets concurrent requests in batches, and is never asked
        through `predict`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no predict_batch")

"""What a runner calls: a stored model, or an object of a user's `Runnable`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from headrace.errors import InvalidModel, shorten
from headrace.protocol.messages import InferenceRequest
from headrace.runners import runnable
from headrace.runners.call_arguments import request_of_call
from headrace.runners.runnable import Runnable
from headrace.runners.runner_values import only_value, request_of


class StoredTarget:
    """A stored model, whose methods take one value."""

    def __init__(self, stored: Any) -> None:
        self.stored = stored
        self.models = [stored]
        self.name: str = stored.tag.name

    def signatures(self, where: str) -> dict[str, Any]:
        """Its methods, and how their requests are merged.

        Raises:
            InvalidModel: it has none.
        """
        found = dict(self.stored.info.signatures or {})
        if not found:
            raise InvalidModel(
                f"{where}: model '{self.stored.tag}' has no signatures, so it has no method to call"
            )
        return found

    def prepare(self) -> None:
        """Import what its answers are made of, so that no request has to."""
        framework = getattr(self.stored.framework_module(), "FRAMEWORK", None)
        if framework is not None and framework.answers:
            # It may be in the model's own environment alone.
            with suppress(ImportError):
                importlib.import_module(framework.answers)

    def load(self) -> Any:
        """The model, in this process."""
        return self.stored.load_methods()

    def call(
        self, loaded: Any, where: str, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The answer of a method of the loaded model."""
        return getattr(loaded, method.name)(*args, **kwargs)

    def request(
        self,
        where: str,
        method: str | None,
        batch_dim: tuple[int, int],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> InferenceRequest:
        """The request for the same.

        Raises:
            InvalidInput: no tensor can hold the value, or there is not just one; `where` names the
                method.
        """
        return request_of(only_value(where, args, kwargs), method, batch_dim)

    def __repr__(self) -> str:
        return f"model={str(self.stored.tag)!r}"


class RunnableTarget:
    """A user's own class, whose methods take whatever they declare."""

    def __init__(
        self, cls: type[Runnable], init_params: Mapping[str, Any] | None, models: Sequence[Any]
    ) -> None:
        self.cls = cls
        self.init_params = dict(init_params or {})
        self.models = stored_models(f"a runner of '{cls.__name__}'", models)
        self.name = cls.__name__

    def signatures(self, where: str) -> dict[str, Any]:
        """Its methods, and how their requests are merged.

        Raises:
            InvalidModel: it has none.
        """
        return dict(runnable.signatures_of(self.cls))

    def prepare(self) -> None:
        """Nothing has to be done: the file of the service imports what it uses."""

    def load(self) -> Any:
        """An object of the class.

        Raises:
            InvalidModel: its constructor does not take the parameters.
        """
        return runnable.created(self.cls, self.init_params)

    def call(
        self, loaded: Any, where: str, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The answer of a method of the object.

        Raises:
            InvalidInput, BadModelOutput: see `runnable.call`.
        """
        return runnable.call(loaded, where, method, args, kwargs)

    def request(
        self,
        where: str,
        method: str | None,
        batch_dim: tuple[int, int],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> InferenceRequest:
        """The request for the same.

        Raises:
            InvalidInput: no tensor can hold an argument.
        """
        return request_of_call(args, kwargs, method, batch_dim)

    def __repr__(self) -> str:
        return f"runnable={self.cls.__name__}"


def stored_models(where: str, given: Sequence[Any]) -> list[Any]:
    """A list of the stored models that a runner or a service is given.

    Raises:
        InvalidModel: one of them is something else; the message begins with `where`.
    """
    for model in given:
        if not hasattr(model, "tag"):
            raise InvalidModel(
                f"{where}: models must be stored models, such as those of headrace.models.get(), "
                f"got {shorten(type(model).__name__)}"
            )
    return list(given)


def target_of(
    given: Any, init_params: Mapping[str, Any] | None, models: Sequence[Any]
) -> StoredTarget | RunnableTarget:
    """What a runner is made of.

    Raises:
        InvalidModel: it is neither a stored model nor a class derived from `Runnable`.
    """
    if isinstance(given, type) and issubclass(given, Runnable):
        return RunnableTarget(given, init_params, models)
    if isinstance(given, type) or not hasattr(given, "tag"):
        shown = given.__name__ if isinstance(given, type) else type(given).__name__
        raise InvalidModel(
            f"a runner is made of a stored model or of a class derived from Runnable, got "
            f"{shorten(shown)}"
        )
    if init_params:
        raise InvalidModel("runnable_init_params are for a Runnable, not for a stored model")
    return StoredTarget(given)

"""Saving models of one framework to the model store, and reading them back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict

from headrace import models
from headrace.errors import (
    InvalidInput,
    InvalidModel,
    NotFound,
    did_you_mean,
    listing,
    shorten,
)
from headrace.frameworks import pickling
from headrace.models import StoredModel
from headrace.runtimes import artefact
from headrace.store.model_info import checked_signatures

# In a model's options: no signatures were given, so the runtime decides whether to merge requests.
AUTOMATIC = "automatic_batching"


class Kept(TypedDict, total=False):
    """What every `save_model` keeps with a model; each may be left out or None.

    `signatures` names the methods to serve, each with `{"batchable": bool, "batch_dim": int}`.
    `labels` are text by text, `custom_objects` any objects that cloudpickle can write, `metadata`
    numbers, text, times, arrays and tables, also nested. The code of `external_modules` is
    pickled with the model rather than imported where the model is loaded.
    """

    signatures: Mapping[str, Any] | None
    labels: Mapping[str, str] | None
    custom_objects: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    external_modules: Sequence[ModuleType] | None


@dataclass(frozen=True)
class Framework:
    """One framework's part in the store.

    `name` is that of the public module in `headrace`, `runtime` that of the runtime which serves
    its models. The versions of `packages` that are installed are recorded with a model. `method`
    is the one that is served by default. `always` are methods that every model has, whatever it
    shows. `only` has the methods that can be served, if they are not simply those of the model,
    and `single` says that it is one of them for each model. `answers` is the package whose tensors
    its runners return, where those are not arrays.
    """

    name: str
    runtime: str
    packages: tuple[str, ...]
    method: str = "predict"
    always: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    single: bool = False
    answers: str = ""

    @property
    def module(self) -> str:
        return f"headrace.{self.name}"

    def require(self, module: str) -> Any:
        """Import the framework.

        Raises:
            MissingDependency: it is not installed; the message has the command that installs it.
        """
        return artefact.require(module, self.runtime)

    def refuse(self, model: Any, expected: str) -> TypeError:
        """The error for an object that this module cannot save."""
        cls = type(model)
        return TypeError(
            f"{self.module}.save_model takes {expected}, got {cls.__module__}.{cls.__qualname__}"
        )

    @contextmanager
    def saving(
        self, name: str, model: Any, kept: Kept, options: Mapping[str, Any] | None = None
    ) -> Iterator[StoredModel]:
        """A new version of `name`, to whose folder the caller writes the model.

        It is in the store once the block ends, and leaves nothing there if the block raises.

        Raises:
            InvalidInput: a signature names a method that the model does not have, or something
                that is to be kept cannot be.
        """
        unknown = set(kept) - set(Kept.__annotations__)
        if unknown:
            raise TypeError(
                f"{self.module}: there is no argument {listing(sorted(unknown))}; a model is kept "
                f"with {', '.join(Kept.__annotations__)}"
            )
        given = kept.get("signatures")
        signatures = checked_signatures(given or {self.method: {"batchable": False}})
        self._check_methods(model, list(signatures))
        found = dict(options or {})
        if not given:
            found[AUTOMATIC] = True
        with (
            pickling.by_value(kept.get("external_modules") or ()),
            models.create(
                name,
                module=self.module,
                signatures=signatures,
                labels=kept.get("labels"),
                options=found,
                custom_objects=kept.get("custom_objects"),
                metadata=kept.get("metadata"),
                context=self.context(),
            ) as stored,
        ):
            yield stored

    def context(self) -> dict[str, Any]:
        """Which framework a model is of, and its versions."""
        return {"framework_name": self.name, "framework_versions": versions(self.packages)}

    def get(self, tag: Any) -> StoredModel:
        """The stored model of a tag.

        Raises:
            NotFound: no such model is stored, or another module saved it.
        """
        stored = tag if isinstance(tag, StoredModel) else models.get(tag)
        other = stored.info.module
        if other != self.module:
            raise NotFound(
                f"model '{stored.tag}' was saved with {other}, not {self.module}: "
                f"{other}.get and {other}.load_model read it"
            )
        return stored

    def checked(self, tag: Any) -> StoredModel:
        """The stored model of a tag, whose files are as they were stored.

        A stored model that is given itself has been checked, if it is its `load_model` that asks.

        Raises:
            NotFound: no such model is stored, or another module saved it.
            InvalidModel: a file is missing, was changed, or was added.
        """
        stored = self.get(tag)
        if stored is not tag:
            stored.verify()
        return stored

    def file(self, stored: StoredModel, *names: str) -> str:
        """Path of the first of these files or folders that is in the model's folder.

        Raises:
            InvalidModel: there is none of them.
        """
        paths = [stored.path_of(name) for name in names]
        for path in paths:
            if Path(path).exists():
                return str(path)
        raise InvalidModel(f"model '{stored.tag}' has none of {listing(names)} in its folder")

    def settings(self, stored: StoredModel, uri: str, **extra: Any) -> dict[str, Any]:
        """The fields of `ModelSettings` by which a worker serves a model from `uri`.

        With signatures other than the default, `extra["methods"]` lists the methods. A request
        whose `outputs` is one of them is answered by it, and one without `outputs` by
        `extra["predict_fn"]`. `extra["batchable"]` is true if requests for each may be merged
        along the first dimension, and `max_batch_size` 1 if they were declared not to be.
        """
        signatures = stored.info.signatures
        methods = list(signatures) or [self.method]
        found: dict[str, Any] = {"implementation": self.runtime, "uri": uri, "extra": extra}
        if methods != [self.method] and not self.single:
            extra["methods"] = methods
            extra["predict_fn"] = self.method if self.method in methods else methods[0]
        if signatures and all(_merges(each) for each in signatures.values()):
            extra["batchable"] = True
        elif not stored.info.options.get(AUTOMATIC):
            found["max_batch_size"] = 1
        return found

    def _check_methods(self, model: Any, methods: list[str]) -> None:
        for method in methods:
            if method in self.always:
                continue
            known = method in self.only if self.only else callable(getattr(model, method, None))
            if not known:
                raise InvalidInput(
                    f"signatures: {self.module} serves {listing(self.only)}, not "
                    f"'{shorten(method)}'"
                    if self.only
                    else f"signatures: the model has no method '{shorten(method)}'"
                    + did_you_mean(method, (each for each in dir(model) if each[0] != "_"))
                )
        if self.single and len(methods) > 1:
            raise InvalidInput(
                f"signatures: {self.module} serves one method of a model, got {listing(methods)}"
            )


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _merges(signature: Any) -> bool:
    """Whether requests may be merged along the first dimension, as the batcher does."""
    return bool(signature.batchable) and tuple(signature.batch_dim) == (0, 0)

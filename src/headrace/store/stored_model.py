"""A stored model, as its users hold it."""

from __future__ import annotations

import datetime
import importlib
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from headrace.errors import InvalidInput, InvalidModel, MissingDependency, shorten
from headrace.store import transfer
from headrace.store.custom_objects import read_custom_objects
from headrace.store.model_info import ModelInfo
from headrace.store.store import Item, Store
from headrace.store.tag import Tag


class StoredModel:
    """One version of a model in the store.

    Two are equal if their tags are. `path` is its folder, with a slash at the end.
    """

    def __init__(
        self, item: Item, info: ModelInfo, custom_objects: Mapping[str, Any] | None = None
    ) -> None:
        self._item = item
        self._info = info
        self._custom_objects = None if custom_objects is None else dict(custom_objects)

    @classmethod
    def of(cls, item: Item) -> StoredModel:
        """The model in an item of the store.

        Raises:
            InvalidModel: its record is wrong.
            NotFound: it was deleted meanwhile.
        """
        try:
            with item.held():
                info = ModelInfo.read(item.path)
                manifest = item.manifest()
        except InvalidModel as error:
            raise InvalidModel(f"{item}: {error.message}") from None
        files = {} if manifest is None else manifest.files
        digests = {path: entry.sha256 for path, entry in files.items()}
        return cls(item, replace(info, digests=digests))

    @property
    def tag(self) -> Tag:
        """Its name and version."""
        return self._item.tag

    @property
    def path(self) -> str:
        """Its folder."""
        return f"{self._item.path}{os.sep}"

    @property
    def info(self) -> ModelInfo:
        """What is known of it."""
        return self._info

    @property
    def creation_time(self) -> datetime.datetime:
        """When it was made."""
        return self._info.creation_time

    @property
    def custom_objects(self) -> dict[str, Any]:
        """The objects that were saved with it; reading them runs the code of whoever saved them.

        Raises:
            MissingDependency, InvalidModel: they cannot be read.
        """
        if self._custom_objects is None:
            with self._other_python():
                self._custom_objects = read_custom_objects(self._item.path)
        return self._custom_objects

    def path_of(self, name: str) -> str:
        """The path of a file or folder of the model.

        Raises:
            InvalidInput: the name leads out of the model's folder.
        """
        path = os.path.normpath(os.path.join(self._item.path, name))
        if not Path(path).is_relative_to(self._item.path):
            raise InvalidInput(f"'{shorten(name)}' leads out of the folder of '{self.tag}'")
        return path

    def verify(self) -> None:
        """Compare its files with the digests that were kept when it was stored.

        Raises:
            InvalidModel: a file is missing, was changed, or was added.
        """
        self._item.verify()

    def framework_module(self) -> ModuleType:
        """The module that loads it, such as `headrace.sklearn`.

        Raises:
            InvalidModel: the record names none that exists.
            MissingDependency: the module needs a package that is not installed.
        """
        name = self.info.module
        if not all(part.isidentifier() for part in name.split(".")):
            raise InvalidModel(f"model '{self.tag}' does not say which module loads it")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                raise InvalidModel(
                    f"model '{self.tag}' was saved with module '{shorten(name)}', which does "
                    "not exist here"
                ) from None
            raise MissingDependency(f"module '{name}' needs '{error.name}'") from error

    def load_model(self, *arguments: Any, **options: Any) -> Any:
        """The model as its framework has it; the arguments are those of the module's `load_model`.

        Raises:
            InvalidModel: its files are not as they were stored.
            NotFound: it was deleted meanwhile.
            MissingDependency: the framework is not installed.
        """
        with self._item.held():
            self.verify()
            module = self.framework_module()
            load = getattr(module, "load_model", None)
            if load is None:
                raise InvalidModel(f"module '{module.__name__}' loads no models")
            with self._other_python():
                return load(self, *arguments, **options)

    @contextmanager
    def _other_python(self) -> Iterator[None]:
        """Say which Python saved the model, if it fails to load in another.

        Raises:
            InvalidModel: instead of what the block raises, in that case.
        """
        saved, here = str(self.info.context.get("python_version", "")), platform.python_version()
        try:
            yield
        except MissingDependency:
            raise
        except Exception as error:
            if not saved or saved.split(".")[:2] == here.split(".")[:2]:
                raise
            raise InvalidModel(
                f"model '{self.tag}' cannot be loaded: {shorten(error, 200)}; it was saved by "
                f"Python {saved} and this is {here}, which cannot read all that the other pickled"
            ) from error

    def load_methods(self) -> Any:
        """An object with the methods that the signatures name, which answer as in a server.

        Raises:
            InvalidModel: its files are not as they were stored, or cannot be served.
            MissingDependency: the framework is not installed.
        """
        self.verify()
        # By name: runtimes are beside the store, and what joins them is above it.
        return importlib.import_module("headrace.frameworks.local_methods").load(self)

    def to_runner(self, name: str = "", **options: Any) -> Any:
        """A runner of the model; the options are those of `headrace.Runner`."""
        # By name: runners are above the store, which they read.
        runners = importlib.import_module("headrace.runners")
        return runners.to_runner(self, name, **options)

    def export(
        self,
        path: str | os.PathLike[str],
        output_format: str | None = None,
        *,
        overwrite: bool = False,
    ) -> str:
        """Write it to an archive or a folder; see `headrace.models.export_model`."""
        store = Store(self._item.kind)
        return transfer.export_item(store, self._item, os.fspath(path), output_format, overwrite)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredModel) and self.tag == other.tag

    def __hash__(self) -> int:
        return hash(self.tag)

    def __str__(self) -> str:
        return f'Model(tag="{self.tag}")'

    def __repr__(self) -> str:
        return f'Model(tag="{self.tag}", path="{self.path}")'

"""The file that a runtime loads: where it is, and what may go wrong while reading it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any, Callable

from headrace.errors import HeadraceError, InvalidModel, LoadFailed, MissingDependency, shorten
from headrace.runtimes import catalog
from headrace.settings import ModelSettings

# The types of a skops file that its settings trust beside those that skops does.
TRUSTED = "skops_trusted_types"


def require(module: str, runtime: str) -> Any:
    """Import a framework, or another module that the extra of the named runtime installs.

    Raises:
        MissingDependency: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A broken installation of the framework is a different failure from a missing one.
        if error.name != module.partition(".")[0]:
            raise
        raise MissingDependency(
            f"{module.partition('.')[0]} is not installed: {catalog.named(runtime).install}"
        ) from error


def locate(settings: ModelSettings, names: Sequence[str]) -> str:
    """Path of the model file: the uri itself, or the first of `names` in that folder.

    Raises:
        InvalidModel: there is no such file.
    """
    path = folder_or_file(settings)
    if os.path.isfile(path):
        return path
    if not os.path.isdir(path):
        raise InvalidModel(f"model '{settings.name}': what its uri names does not exist")
    for name in names:
        candidate = os.path.join(path, name)
        if os.path.isfile(candidate):
            return candidate
    raise InvalidModel(f"model '{settings.name}': found none of {', '.join(names)} in its folder")


def folder_or_file(settings: ModelSettings) -> str:
    """The local path of `uri`, which is relative to the settings' folder unless it exists."""
    uri = settings.uri or settings.folder
    if uri.startswith("file:"):
        uri = path_of_file_uri(uri)
    if not os.path.isabs(uri) and settings.folder and not os.path.exists(uri):
        return os.path.join(settings.folder, uri)
    return uri


def path_of_file_uri(uri: str) -> str:
    """The path that a `file:` URI names. A `#` is part of it: nobody means a fragment of a file.

    What is not escaped although it should be, such as a `%`, is taken as it is if it exists.
    """
    from urllib.parse import unquote

    rest = uri.partition(":")[2]
    if rest.startswith("//"):
        rest = "/" + rest[2:].partition("/")[2]
    path = unquote(rest)
    return rest if not os.path.exists(path) and os.path.exists(rest) else path


def read(what: str, load: Callable[[], Any]) -> Any:
    """Run `load`; anything it raises becomes a `LoadFailed` that says what could not be read.

    Raises:
        InvalidModel: a file or a module is missing, or may not be read.
    """
    try:
        return load()
    except HeadraceError:
        raise
    except ModuleNotFoundError as error:
        raise InvalidModel(
            f"{what} needs the module '{error.name}', which is not installed"
        ) from error
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise InvalidModel(f"{what} could not be read: {_of_file(error)}") from error
    except Exception as error:
        raise LoadFailed(f"{what} could not be read: {type(error).__name__} was raised") from error


def load_pickle(path: str, form: str, settings: ModelSettings | None = None) -> Any:
    """Unpickle a model with `pickle`, `cloudpickle` or `joblib`; runs code from the file.

    Raises:
        InvalidModel: only the model's format is trusted.
    """
    if settings is not None:
        from headrace.runtimes import trust

        trust.check_pickle(settings)
    if form == "joblib":
        return require("joblib", "sklearn").load(path)
    reader = (
        require("cloudpickle", "pickle")
        if form == "cloudpickle"
        else importlib.import_module("pickle")
    )
    with open(path, "rb") as file:
        return reader.load(file)


def load_skops(path: str, trusted: Sequence[str]) -> Any:
    """Read a skops file whose types are skops' own or among `trusted`.

    Raises:
        InvalidModel: the file holds other types; the message lists them.
    """
    skops_io = require("skops.io", "sklearn")
    unknown = [name for name in skops_io.get_untrusted_types(file=path) if name not in trusted]
    if unknown:
        raise InvalidModel(
            f"the skops file holds types that are not trusted: {', '.join(unknown[:10])}; "
            "list them in 'skops_trusted_types' if you trust its origin"
        )
    return skops_io.load(path, trusted=list(trusted))


def _of_file(error: OSError) -> str:
    """What is wrong with which file; libraries raise such errors with nothing but words, too."""
    if error.errno is None or not error.filename:
        return f"{type(error).__name__} was raised"
    name = shorten(os.path.basename(str(error.filename)))
    return f"'{name}': {os.strerror(error.errno).lower()}"


def trusted_types(settings: ModelSettings, options: dict[str, Any]) -> Sequence[str]:
    """The types that a model asks skops to trust; none where only formats are trusted."""
    return [] if settings.trust == "formats" else options.get(TRUSTED) or []

"""Finds the `Service` that a reference such as `service.py:svc` names. Runs user code."""

from __future__ import annotations

import importlib
import os
import traceback
from types import ModuleType
from typing import Any

from headrace.compat import alias
from headrace.errors import IN_LOG, HeadraceError, InvalidModel, listing, load_failure, shorten
from headrace.runtimes import import_path
from headrace.runtimes.import_lock import IMPORTS
from headrace.runtimes.service import found_instead, own_metrics
from headrace.services.service import Service


def load(module: str, attribute: str, folder: str) -> Service:
    """Import a module from `folder` and return its service.

    Without an `attribute`, the module must have just one.

    Raises:
        InvalidModel: there is no such module or service, or its definition is wrong.
        LoadFailed: the module raised something that may not happen the next time.
    """
    with IMPORTS.held():
        alias.offer()
        import_path.put_working_directory()
        import_path.put_first(folder)
        with own_metrics.defined_again(module, folder):
            found = _import(module, folder)
    if not attribute:
        return _only(found, module)
    service: Any = found
    for part in attribute.split("."):
        service = getattr(service, part, None)
    if not isinstance(service, Service):
        what = "no such attribute" if service is None else shorten(type(service).__name__)
        raise InvalidModel(
            f"{module}:{shorten(attribute)} is not a Service ({what}); the module has "
            f"{listing(list(_services(found))) or 'none'}"
        )
    return service


def _import(module: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except InvalidModel as error:
        raise InvalidModel(f"{module}{_line_of(error, folder)}: {error.message}") from error
    except ModuleNotFoundError as error:
        wanted = shorten(error.name or module)
        raise InvalidModel(
            f"service module '{shorten(module)}' could not be imported: there is no module "
            f"'{wanted}'{_line_of(error, folder)}"
        ) from error
    except HeadraceError as error:
        raise type(error)(f"{error.message}{_line_of(error, folder)}") from error
    # Also one that ends the process, which would end without a word.
    except BaseException as error:
        raise load_failure(
            f"service module '{shorten(module)}' could not be imported: {type(error).__name__} was "
            f"raised{_line_of(error, folder)}; {IN_LOG}",
            error,
        ) from error


def _line_of(error: BaseException, folder: str) -> str:
    """Where in the user's own files the error comes from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({os.path.basename(error.filename)}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if each.filename.startswith(folder + os.sep)]
    if not own:
        return ""
    return f" ({os.path.relpath(own[-1].filename, folder)}, line {own[-1].lineno})"


def _services(module: ModuleType) -> dict[str, Service]:
    return {name: each for name, each in vars(module).items() if isinstance(each, Service)}


def _only(module: ModuleType, name: str) -> Service:
    found = _services(module)
    if len({id(each) for each in found.values()}) == 1:
        return next(iter(found.values()))
    if not found:
        raise InvalidModel(f"module '{shorten(name)}': {found_instead.describe(module)}")
    raise InvalidModel(
        f"module '{shorten(name)}' defines several services ({listing(list(found))}); name one: "
        f"{shorten(name)}.py:{next(iter(found))}"
    )

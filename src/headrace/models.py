"""The model store: versions of models with what is known of them, in `$HEADRACE_HOME/models`.

Functions take a tag such as `iris`, `iris:latest`, `iris:v1`, or `iris:` and the beginning of a
version that no other version has.
"""

from __future__ import annotations

import builtins
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from headrace import __version__
from headrace.errors import InvalidInput, InvalidModel, NotFound
from headrace.store import transfer
from headrace.store.custom_objects import write_custom_objects
from headrace.store.kinds import MODELS
from headrace.store.metadata_values import normalised
from headrace.store.model_info import (
    RECORD,
    ModelContext,
    ModelInfo,
    Signature,
    checked_labels,
    checked_options,
    checked_signatures,
)
from headrace.store.remote import Remote
from headrace.store.store import Item, Store
from headrace.store.stored_model import StoredModel
from headrace.store.tag import Tag

logger = logging.getLogger("headrace.store")

__all__ = [
    "ModelContext",
    "ModelInfo",
    "ModelOptions",
    "Signature",
    "StoredModel",
    "Tag",
    "copy",
    "create",
    "delete",
    "export_model",
    "get",
    "import_model",
    "list",
    "pull",
    "push",
]

# BentoML's name of what `options` takes.
ModelOptions = dict


def list(tag: str | Tag | None = None) -> builtins.list[StoredModel]:
    """All models, all versions of a name, or the model of a tag; sorted by name and version.

    One whose record is wrong is left out, and logged.

    Raises:
        NotFound: there is no model of that name.
        InvalidInput: it is not a tag.
    """
    found = []
    for item in Store(MODELS).list(tag):
        try:
            found.append(StoredModel.of(item))
        except NotFound:
            # It was deleted since the store was listed.
            continue
        except InvalidModel as error:
            logger.warning("left out a stored model: %s", error.message)
    return found


def get(tag: str | Tag | StoredModel) -> StoredModel:
    """The model of a tag. Without a version, it is the latest.

    Raises:
        NotFound: it does not exist.
        InvalidInput: it is not a tag, or several versions begin like that.
        InvalidModel: its record is wrong.
    """
    return tag if isinstance(tag, StoredModel) else StoredModel.of(Store(MODELS).get(tag))


def delete(tag: str | Tag | StoredModel) -> builtins.list[Tag]:
    """Remove the model of a tag, or all versions of a name; returns the tags of what was removed.

    Raises:
        NotFound: it does not exist.
        StoreFailed: the store cannot be written.
    """
    return Store(MODELS).delete(tag.tag if isinstance(tag, StoredModel) else tag)


@contextmanager
def create(
    name: str | Tag,
    *,
    module: str = "",
    signatures: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> Iterator[StoredModel]:
    """A new version of `name`, to whose `path` the `with` block writes the model's files.

    It is in the store once the block ends. If the block raises, or the process is killed, nothing
    of it stays. `name` may have a version, as in `iris:v1`; otherwise one is made. `module` is
    the framework module that loads the model; without one, nothing does. A signature is a dict
    with `batchable` and `batch_dim`, by the name of its method. Arrays and tables in `metadata`
    become lists.

    Raises:
        InvalidInput: an argument or the name of a file cannot be kept; the message says which.
        Conflict: the version exists.
        StoreFailed: the disk is full, or the store cannot be written.
        MissingDependency: there are custom objects, and cloudpickle is not installed.
    """
    fields: dict[str, Any] = {
        "module": module,
        "labels": checked_labels(labels or {}),
        "options": checked_options(options or {}, "options"),
        "metadata": normalised(dict(metadata or {})),
        "context": ModelContext(
            **{
                **checked_options(context or {}, "context"),
                "headrace_version": __version__,
                "python_version": platform.python_version(),
            }
        ),
        "signatures": checked_signatures(signatures or {}),
    }
    store = Store(MODELS)
    with store.create(name) as draft:
        info = ModelInfo(draft.tag.name, str(draft.tag.version), **fields)
        record = info.dump()
        model = StoredModel(Item(draft.tag, draft.path, MODELS), info, custom_objects or {})
        yield model
        if (draft.path / RECORD).exists():
            raise InvalidInput(f"'{RECORD}' is the name of the model's record; choose another")
        if custom_objects:
            write_custom_objects(draft.path, custom_objects)
        (draft.path / RECORD).write_text(record, encoding="utf-8")
    # Those who hold the model find it where it is now.
    stored = StoredModel.of(store.get(draft.tag))
    model._item, model._info = stored._item, stored._info


def import_model(path: str | os.PathLike[str], input_format: str | None = None) -> StoredModel:
    """Add the model in an archive or a folder, under the tag in its record.

    It is a path, or the URL of an archive in an object store. Archives are `.tar.zst`, `.tar.gz`,
    `.tar.xz`, `.tar.bz2`, `.tar` and `.zip`; they are recognised by their content, whatever
    `input_format` says. The models of BentoML and VtsServing are read as well, with their
    `.bentomodel` archives. A model that is in the store with the same content stays as it is.

    Raises:
        InvalidModel: there is no model in it, or it is damaged or hostile.
        Conflict: the version is in the store with another content.
        StoreFailed: it cannot be read, or the store cannot be written.
        MissingDependency: it needs a package that is not installed.
    """
    return StoredModel.of(transfer.import_item(Store(MODELS), os.fspath(path), ModelInfo.read))


def export_model(
    tag: str | Tag | StoredModel,
    path: str | os.PathLike[str],
    output_format: str | None = None,
    *,
    overwrite: bool = False,
) -> str:
    """Write a model to an archive or a folder; returns its path or URL.

    `path` is a path, or the URL of an object. Its end says which format it has, unless
    `output_format` does: `tar.zst`, `tar.gz`, `tar.xz`, `tar.bz2`, `tar`, `zip` or `folder`; `gz`,
    `xz` and `bz2` are tar archives too. An existing folder gets a `NAME-VERSION.tar.zst`, and a
    path without an end becomes a folder.

    Raises:
        NotFound: there is no such model.
        InvalidInput: the end of the path is none of these, or there is no such format.
        InvalidModel: its files are not as they were stored.
        Conflict: there is an archive and `overwrite` is false, or a folder with something in it.
        StoreFailed: it cannot be written.
        MissingDependency: it needs a package that is not installed.
    """
    return get(tag).export(path, output_format, overwrite=overwrite)


def push(tag: str | Tag | StoredModel, url: str) -> bool:
    """Copy a model to the object store at `url`; False if it was there already.

    Raises:
        NotFound: there is no such model.
        InvalidModel: its files are not as they were stored.
        Conflict: the version is there with another content.
        StoreFailed: the object store cannot be reached or written.
        MissingDependency: obstore is not installed.
    """
    return Remote(url).push(get(tag)._item)


def pull(tag: str | Tag, url: str) -> StoredModel:
    """Copy a model from the object store at `url`, and check its digests.

    Raises:
        NotFound: it is not there.
        InvalidModel: its files are not those that were pushed.
        Conflict: the version is in this store with another content.
        StoreFailed: the object store cannot be reached or read, or the store cannot be written.
        MissingDependency: obstore is not installed.
    """
    remote = Remote(url)
    return StoredModel.of(remote.pull(remote.get(Tag.parse(tag)), Store(MODELS), ModelInfo.read))


def copy(tag: str | Tag | StoredModel, new: str | Tag) -> StoredModel:
    """Give a model a second name or version. Its files are shared, and its time is kept.

    Without a version in `new`, it keeps its own.

    Raises:
        NotFound: there is no such model.
        InvalidModel: its files are not as they were stored.
        Conflict: the new tag exists.
        StoreFailed: the store cannot be written.
    """
    source = get(tag)
    source.verify()
    wanted = Tag.parse(new)
    target = Tag(wanted.name, wanted.version or source.tag.version)
    store = Store(MODELS)
    with store.create(target) as draft:
        transfer.share(source._item, draft.path)
        (draft.path / RECORD).unlink()
        info = source.info.under(draft.tag.name, str(draft.tag.version))
        (draft.path / RECORD).write_text(info.dump(), encoding="utf-8")
    return StoredModel.of(store.get(target))

"""`headrace models`: what is in the model store; tables for people, JSON and YAML for scripts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.stored_items import (
    OUTPUTS,
    Parsers,
    add_export_options,
    delete_items,
    guarded_verb,
    print_item,
    print_items,
    size_of,
)
from headrace.errors import ConfigurationError

if TYPE_CHECKING:
    from headrace.models import StoredModel


def add_command(commands: Parsers[argparse.ArgumentParser]) -> None:
    """Add `models` with its verbs."""
    parser = commands.add_parser("models", help="list, move and remove the models in the store")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_reading(verbs)
    _add_moving(verbs)


def _add_reading(verbs: Parsers[argparse.ArgumentParser]) -> None:
    listing = guarded_verb(verbs, "list", run_list, "list all models, or the versions of one")
    listing.add_argument("tag", metavar="NAME", nargs="?", help="name, or tag, of a model")
    listing.add_argument("--url", help="list what is in the object store at this URL instead")
    get = guarded_verb(verbs, "get", run_get, "show what is known of a model")
    get.add_argument("tag", metavar="TAG", help="such as iris, iris:latest or iris:v1")
    for each in (listing, get):
        each.add_argument(
            "-o", "--output", choices=OUTPUTS, default="table", help="form of what is printed"
        )
    delete = guarded_verb(verbs, "delete", run_delete, "remove models, or all versions of a name")
    delete.add_argument("tags", metavar="TAG", nargs="+")
    delete.add_argument("-y", "--yes", action="store_true", help="do not ask first")
    tag = guarded_verb(verbs, "tag", run_tag, "give a model a second name or version")
    tag.add_argument("tag", metavar="TAG")
    tag.add_argument("new", metavar="NEW", help="its second tag, such as iris:prod")


def _add_moving(verbs: Parsers[argparse.ArgumentParser]) -> None:
    export = guarded_verb(verbs, "export", run_export, "write a model to an archive or a folder")
    export.add_argument("tag", metavar="TAG")
    export.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        default=".",
        help="archive or folder to write, or the URL of an object; by default an archive in the "
        "current folder",
    )
    add_export_options(export)
    importing = guarded_verb(
        verbs, "import", run_import, "add the models in an archive or a folder"
    )
    importing.add_argument(
        "path",
        metavar="PATH",
        help="archive, its URL, or folder; those of BentoML and VtsServing are read too",
    )
    push = guarded_verb(verbs, "push", run_push, "copy a model to an object store")
    pull = guarded_verb(verbs, "pull", run_pull, "copy a model from an object store")
    for each in (push, pull):
        each.add_argument("tag", metavar="TAG")
        each.add_argument("url", metavar="URL", help="such as s3://bucket/models")


def run_list(options: argparse.Namespace) -> int:
    """Print the models in the store, or in an object store."""
    if options.url is not None:
        return _list_remote(options)
    rows = [_row(model) for model in _store().list(options.tag)]
    columns = ("tag", "module", "size", "creation_time")
    return print_items(rows, options.output, columns, "no models")


def run_get(options: argparse.Namespace) -> int:
    """Print one model."""
    model = _store().get(options.tag)
    return print_item(model.info.to_dict(), model.path, options.output)


def run_delete(options: argparse.Namespace) -> int:
    """Remove models, once somebody has agreed."""
    return delete_items(_store(), options, "models", "Model")


def run_export(options: argparse.Namespace) -> int:
    """Write a model to an archive or a folder."""
    model = _store().get(options.tag)
    place = model.export(options.path, options.format, overwrite=options.overwrite)
    print(f"{model} exported to {place}")
    return 0


def run_import(options: argparse.Namespace) -> int:
    """Add one model, or all that a folder of models holds."""
    models = _store()
    for path in _importable(options.path):
        print(f"{models.import_model(path)} imported")
    return 0


def run_push(options: argparse.Namespace) -> int:
    """Copy a model to an object store."""
    model = _store().get(options.tag)
    new = _store().push(model, options.url)
    print(f"{model} {'pushed' if new else 'was there already'}")
    return 0


def run_pull(options: argparse.Namespace) -> int:
    """Copy a model from an object store."""
    print(f"{_store().pull(options.tag, options.url)} pulled")
    return 0


def run_tag(options: argparse.Namespace) -> int:
    """Give a model a second tag."""
    print(f"{_store().copy(options.tag, options.new)} created")
    return 0


def _store() -> Any:
    # Imported here so that `headrace --help` does not pay for it.
    from headrace import models

    return models


def _importable(path: str) -> list[str]:
    """The folder of each model in a folder of several; otherwise the path itself."""
    from headrace.store.model_info import RECORD
    from headrace.store.transfer import records_below

    place = Path(path)
    if not place.is_dir():
        return [path]
    # BentoML's home folder has the store in `models`.
    found = records_below(place, RECORD) or records_below(place / "models", RECORD)
    return [str(each) for each in found] or [path]


def _list_remote(options: argparse.Namespace) -> int:
    from headrace.store.remote import Remote
    from headrace.store.tag import Tag

    name = Tag.parse(options.tag).name if options.tag is not None else None
    rows: list[dict[str, Any]] = [
        {
            "tag": str(item.tag),
            "size": item.manifest.size,
            "creation_time": item.creation_time,
        }
        for item in Remote(options.url).list(name)
    ]
    if options.output == "path":
        raise ConfigurationError("-o path: what is in an object store has no path here")
    return print_items(rows, options.output, ("tag", "size", "creation_time"), "no models")


def _row(model: StoredModel) -> dict[str, Any]:
    path = Path(model.path)
    return {
        "tag": str(model.tag),
        "module": model.info.module,
        "size": size_of(path),
        "creation_time": model.info.creation_time.isoformat(timespec="seconds"),
        "labels": model.info.labels,
        "path": str(path),
    }

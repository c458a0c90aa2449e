"""`headrace bundles`: what is in the store of bundles."""

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

if TYPE_CHECKING:
    from headrace.bundles import Bundle


def add_command(commands: Parsers[argparse.ArgumentParser]) -> None:
    """Add `bundles` with its verbs."""
    parser = commands.add_parser("bundles", help="list, move and remove the bundles in the store")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = guarded_verb(verbs, "list", run_list, "list all bundles, or the versions of one")
    listing.add_argument("tag", metavar="NAME", nargs="?", help="name, or tag, of a bundle")
    get = guarded_verb(verbs, "get", run_get, "show what is known of a bundle")
    get.add_argument("tag", metavar="TAG")
    for each in (listing, get):
        each.add_argument(
            "-o", "--output", choices=OUTPUTS, default="table", help="form of what is printed"
        )
    delete = guarded_verb(verbs, "delete", run_delete, "remove bundles")
    delete.add_argument("tags", metavar="TAG", nargs="+")
    delete.add_argument("-y", "--yes", action="store_true", help="do not ask first")
    export = guarded_verb(verbs, "export", run_export, "write a bundle to an archive or a folder")
    export.add_argument("tag", metavar="TAG")
    export.add_argument("path", metavar="PATH", nargs="?", default=".", help="path or URL")
    add_export_options(export)
    importing = guarded_verb(verbs, "import", run_import, "add the bundle in an archive or folder")
    importing.add_argument("path", metavar="PATH", help="archive, its URL, or folder")
    push = guarded_verb(verbs, "push", run_push, "copy a bundle to an object store")
    pull = guarded_verb(verbs, "pull", run_pull, "copy a bundle from an object store")
    for each in (push, pull):
        each.add_argument("tag", metavar="TAG")
        each.add_argument("url", metavar="URL", help="such as s3://bucket/bundles")


def run_list(options: argparse.Namespace) -> int:
    """Print the bundles in the store."""
    rows = [_row(bundle) for bundle in _store().list(options.tag)]
    columns = ("tag", "service", "size", "creation_time")
    return print_items(rows, options.output, columns, "no bundles")


def run_get(options: argparse.Namespace) -> int:
    """Print one bundle."""
    bundle = _store().get(options.tag)
    return print_item(bundle.info.to_dict(), bundle.path, options.output)


def run_delete(options: argparse.Namespace) -> int:
    """Remove bundles, once somebody has agreed."""
    return delete_items(_store(), options, "bundles", "Bundle")


def run_export(options: argparse.Namespace) -> int:
    """Write a bundle to an archive or a folder."""
    bundle = _store().get(options.tag)
    place = _store().export_bundle(
        bundle, options.path, options.format, overwrite=options.overwrite
    )
    print(f"{bundle!r} exported to {place}")
    return 0


def run_import(options: argparse.Namespace) -> int:
    """Add a bundle."""
    print(f"{_store().import_bundle(options.path)!r} imported")
    return 0


def run_push(options: argparse.Namespace) -> int:
    """Copy a bundle to an object store."""
    bundle = _store().get(options.tag)
    new = _store().push(bundle, options.url)
    print(f"{bundle!r} {'pushed' if new else 'was there already'}")
    return 0


def run_pull(options: argparse.Namespace) -> int:
    """Copy a bundle from an object store."""
    print(f"{_store().pull(options.tag, options.url)!r} pulled")
    return 0


def _store() -> Any:
    # Imported here so that `headrace --help` does not pay for it.
    from headrace import bundles

    return bundles


def _row(bundle: Bundle) -> dict[str, Any]:
    path = Path(bundle.path)
    return {
        "tag": str(bundle.tag),
        "service": bundle.info.service or "",
        "size": size_of(path),
        "creation_time": bundle.info.creation_time.isoformat(timespec="seconds"),
        "labels": dict(bundle.info.labels),
        "digest": bundle.info.digest,
        "path": str(path),
    }

"""`headrace bundles`: what is in the store of bundles."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.models_command import (
    OUTPUTS,
    Parsers,
    guarded_verb,
    lines_of,
    print_document,
    print_table,
    shown_size,
)
from headrace.errors import ConfigurationError

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
    export.add_argument("--format", help="tar.zst, tar.gz, tar.xz, tar, zip or folder")
    importing = guarded_verb(verbs, "import", run_import, "add the bundle in an archive or folder")
    importing.add_argument("path", metavar="PATH", help="archive, its URL, or folder")
    push = guarded_verb(verbs, "push", run_push, "copy a bundle to an object store")
    pull = guarded_verb(verbs, "pull", run_pull, "copy a bundle from an object store")
    for each in (push, pull):
        each.add_argument("tag", metavar="TAG")
        each.add_argument("url", metavar="URL", help="such as s3://bucket/bundles")


def run_list(options: argparse.Namespace) -> int:
    """Print the bundles in the store."""
    found = _store().list(options.tag)
    rows = [_row(bundle) for bundle in found]
    if options.output == "path":
        for row in rows:
            print(row["path"])
    elif options.output == "table":
        shown = [{**row, "size": shown_size(row["size"])} for row in rows]
        print_table(shown, ("tag", "service", "size", "creation_time"), "no bundles")
    else:
        print_document(rows, options.output)
    return 0


def run_get(options: argparse.Namespace) -> int:
    """Print one bundle."""
    bundle = _store().get(options.tag)
    document = {**bundle.info.to_dict(), "path": bundle.path.rstrip("/")}
    if options.output == "path":
        print(document["path"])
    elif options.output == "table":
        document |= {"size": shown_size(_row(bundle)["size"])}
        for line in lines_of(document):
            print(line)
    else:
        print_document(document, options.output)
    return 0


def run_delete(options: argparse.Namespace) -> int:
    """Remove bundles, once somebody has agreed."""
    store = _store()
    # All are looked for first, so that a mistyped tag removes nothing.
    found = [
        str(bundle.tag)
        for tag in options.tags
        for bundle in (store.list(tag) if ":" not in tag else [store.get(tag)])
    ]
    if not options.yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("bundles delete: --yes is needed where nobody can be asked")
        print("\n".join(found))
        if input("remove these? [y/N] ").strip().lower() not in ("y", "yes"):
            return 1
    for tag in dict.fromkeys(options.tags):
        for gone in store.delete(tag):
            print(f'Bundle(tag="{gone}") deleted')
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write a bundle to an archive or a folder."""
    bundle = _store().get(options.tag)
    place = _store().export_bundle(bundle, options.path, options.format)
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
        "size": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "creation_time": bundle.info.creation_time.isoformat(timespec="seconds"),
        "labels": dict(bundle.info.labels),
        "digest": bundle.info.digest,
        "path": str(path),
    }

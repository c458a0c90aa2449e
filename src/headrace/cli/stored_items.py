"""What the commands for models and for bundles in their stores have in common."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headrace.errors import ConfigurationError, HeadraceError

OUTPUTS = ("table", "json", "yaml", "path")
Parsers = argparse._SubParsersAction


def guarded_verb(
    verbs: Parsers[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    """Add a verb whose errors are printed, and end it with status 1."""
    parser = verbs.add_parser(name, help=text)
    parser.set_defaults(run=guarded(run))
    return parser


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the format of an archive, and for replacing one that exists."""
    parser.add_argument("--format", help="tar.zst, tar.gz, tar.xz, tar.bz2, tar, zip or folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an archive that exists")


def guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The command, with its errors printed and status 1 instead of an exception."""

    def run_guarded(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except ConfigurationError:
            raise
        except HeadraceError as error:
            print(f"headrace: {error.message}", file=sys.stderr)
            return 1

    return run_guarded


def print_items(
    rows: list[dict[str, Any]], output: str, columns: tuple[str, ...], none: str
) -> int:
    """Print rows in the form that `--output` names; `none` is for a table without any."""
    if output == "path":
        for row in rows:
            print(row["path"])
    elif output == "table":
        print_table([{**row, "size": shown_size(row["size"])} for row in rows], columns, none)
    else:
        print_document(rows, output)
    return 0


def print_item(record: dict[str, Any], path: str, output: str) -> int:
    """Print what is known of one item in the form that `--output` names."""
    document = {**record, "path": path.rstrip("/")}
    if output == "path":
        print(document["path"])
    elif output == "table":
        document |= {"size": shown_size(size_of(Path(path)))}
        for line in lines_of(document):
            print(line)
    else:
        print_document(document, output)
    return 0


def delete_items(store: Any, options: argparse.Namespace, command: str, kind: str) -> int:
    """Remove items from a store, once somebody has agreed.

    Raises:
        ConfigurationError: nobody can be asked, and there is no `--yes`.
    """
    # All are looked for first, so that a mistyped tag removes nothing.
    found = [
        str(item.tag)
        for tag in options.tags
        for item in (store.list(tag) if ":" not in tag else [store.get(tag)])
    ]
    if not options.yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"{command} delete: --yes is needed where nobody can be asked")
        print("\n".join(found))
        if input("remove these? [y/N] ").strip().lower() not in ("y", "yes"):
            return 1
    for tag in dict.fromkeys(options.tags):
        for gone in store.delete(tag):
            print(f'{kind}(tag="{gone}") deleted')
    return 0


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def print_document(document: Any, form: str) -> None:
    """Print a value as `json` or `yaml`."""
    if form == "yaml":
        from headrace.store.record_yaml import dump

        sys.stdout.write(dump(document))
        return
    json.dump(document, sys.stdout, indent=2, default=str)
    print()


def print_table(rows: list[dict[str, Any]], columns: tuple[str, ...], none: str) -> None:
    """Print a table, with the columns' names in its first line; `none` is for one without rows."""
    if not rows:
        print(none)
        return
    cells = [[column.upper().replace("_", " ") for column in columns]]
    cells += [[str(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        texts = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        print("  ".join(texts).rstrip())


def lines_of(document: dict[str, Any]) -> Iterator[str]:
    """One line for each value; what is nested is named by the keys that lead to it."""
    flat: dict[str, Any] = {}

    def add(key: str, value: Any) -> None:
        if isinstance(value, dict):
            for inner, each in value.items():
                add(f"{key}.{inner}" if key else str(inner), each)
        else:
            flat[key] = value

    add("", document)
    width = max(map(len, flat))
    for key, value in flat.items():
        yield f"{key:{width}}  {value}".rstrip()


def shown_size(count: int) -> str:
    """A number of bytes, for people."""
    from headrace.store.progress_bar import size_text

    return size_text(count)

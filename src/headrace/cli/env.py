"""`headrace env build`, `list` and `prune`: the environments of models."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli import dotenv
from headrace.store.progress_bar import size_text

if TYPE_CHECKING:
    from headrace.environments.shelf import Place, Shelf

DAY = 24 * 3600.0
SHOWN_REQUIREMENTS = 3


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `env` with its verbs."""
    parser = commands.add_parser("env", help="build, list or remove the environments of models")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="list the environments")
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    listing.set_defaults(run=run_list)
    prune = verbs.add_parser("prune", help="remove environments that no server uses")
    prune.add_argument(
        "--older-than",
        type=_days,
        default=30.0,
        metavar="DAYS",
        help="remove what was not used for this many days (default 30)",
    )
    prune.add_argument(
        "--all", action="store_true", help="however recently used, and the package cache too"
    )
    prune.set_defaults(run=run_prune)
    build = verbs.add_parser("build", help="build now what models would wait for when they load")
    build.add_argument("model", metavar="MODEL", help="as for `headrace serve`")
    build.set_defaults(run=run_build)
    for each in (build, listing, prune):
        each.add_argument(
            "--environments-dir", help="folder of the environments, as for `headrace serve`"
        )


def run_list(options: argparse.Namespace) -> int:
    """Print a table of the environments, or JSON."""
    rows = [_row(place) for place in _shelf(options).places()]
    if options.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
        return 0
    for line in _table(rows):
        print(line)
    return 0


def run_build(options: argparse.Namespace) -> int:
    """Build or unpack the environment of each model that needs one of its own."""
    from headrace.errors import LoadFailed

    try:
        asyncio.run(_build(options))
    except LoadFailed as exc:
        print(f"headrace: {exc.message}", file=sys.stderr)
        return 1
    return 0


async def _build(options: argparse.Namespace) -> None:
    from headrace import configuration
    from headrace.environments.environments import Environments
    from headrace.environments.shelf import Shelf
    from headrace.sources import artifacts
    from headrace.sources.discovery import open_source

    folder = Path(options.model) if os.path.isdir(options.model) else None
    flags = {"environments_dir": options.environments_dir}
    environ = dotenv.environment()
    settings = configuration.resolve(flags, environ, folder).settings
    # What copies the folder next expects it, even where no model needs an environment.
    Shelf(settings).make()
    environments = Environments(settings)
    try:
        for found in open_source(options.model, None, environ).found():
            model = found.settings
            uri, download, _ = await artifacts.fetch(model.uri, settings.fetch_timeout, print)
            try:
                python = await environments.python_for(replace(model, uri=uri), print)
            finally:
                if download is not None:
                    shutil.rmtree(download, ignore_errors=True)
            where = "the server's" if python == sys.executable else python
            print(f"{model.name}: {where}")
    finally:
        await environments.close()


def run_prune(options: argparse.Namespace) -> int:
    """Remove environments that are not in use, and print how much that freed."""
    from headrace.errors import LoadFailed

    try:
        _prune(options)
    except (LoadFailed, OSError) as exc:
        print(f"headrace: {exc}", file=sys.stderr)
        return 1
    return 0


def _prune(options: argparse.Namespace) -> None:
    from headrace.environments import build
    from headrace.environments.shelf import size_of

    shelf = _shelf(options)
    before = time.time() - (0 if options.all else options.older_than * DAY)
    count = size = 0
    for place in shelf.places():
        freed = shelf.prune(place, before)
        if freed is not None:
            count, size = count + 1, size + freed
            print(f"removed {place.key}")
    if options.all and shelf.cache.exists():
        size += size_of(shelf.cache, shared=False)
        build.clean_cache(shelf.cache)
        print("removed the package cache")
    print(f"{count} environment{'' if count == 1 else 's'} removed, {size_text(size)} freed")
    if count and not options.all:
        print("files shared with the package cache are kept there; --all removes it too")


def _shelf(options: argparse.Namespace) -> Shelf:
    from headrace import configuration
    from headrace.environments.shelf import Shelf

    flags = {"environments_dir": options.environments_dir}
    return Shelf(configuration.resolve(flags, dotenv.environment(), None).settings)


def _row(place: Place) -> dict[str, Any]:
    # In this order: the removal of an environment begins with its record.
    used, record = place.last_used(), place.record()
    row = {"key": place.key, "folder": str(place.folder), "in_use": place.is_in_use()}
    if record is None:
        return {**row, "finished": False}
    return {
        **row,
        "finished": True,
        "python": record.python,
        "size": record.size,
        "last_used": _time(used),
        "created": _time(record.created),
        "seconds": record.seconds,
        "requirements": record.requirements,
    }


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "no environments"
        return
    cells = [("KEY", "PYTHON", "SIZE", "LAST USED", "REQUIREMENTS")]
    for row in rows:
        if not row["finished"]:
            state = "being built" if row["in_use"] else "unfinished"
            cells.append((row["key"], "-", "-", "-", state))
            continue
        used = "in use" if row["in_use"] else row["last_used"][:10]
        shown = ", ".join(row["requirements"][:SHOWN_REQUIREMENTS])
        more = len(row["requirements"]) - SHOWN_REQUIREMENTS
        shown += f" and {more} more" if more > 0 else ""
        cells.append((row["key"], row["python"], size_text(row["size"]), used, shown))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(
            f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)
        ).rstrip()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < 1_000_000:
        raise argparse.ArgumentTypeError(f"expected a number of days, got {text}")
    return days

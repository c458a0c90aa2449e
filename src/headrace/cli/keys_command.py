"""`headrace keys`: the API keys that a server asks for."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from headrace.access import keys_file
from headrace.access.keys_file import Entry
from headrace.access.needs import SCOPES
from headrace.cli.stored_items import Parsers, print_table
from headrace.errors import ConfigurationError, did_you_mean, shorten

VARIABLE = "HEADRACE_API_KEYS_FILE"


def add_command(commands: Parsers[argparse.ArgumentParser]) -> None:
    """Add `keys` with its verbs."""
    parser = commands.add_parser("keys", help="create, list and revoke API keys")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    create = verbs.add_parser("create", help="add a key to the file, and print it once")
    listing = verbs.add_parser(
        "list", help="list the keys, of which nobody can see more than names"
    )
    revoke = verbs.add_parser("revoke", help="take a key out of the file")
    for verb, run in ((create, run_create), (listing, run_list), (revoke, run_revoke)):
        verb.set_defaults(run=run)
        verb.add_argument(
            "--file",
            metavar="FILE",
            help=f"the file of --api-keys-file; without it, the one in {VARIABLE}",
        )
    for verb in (create, revoke):
        verb.add_argument("name", metavar="NAME", help="whose key it is, for logs and messages")
    create.add_argument(
        "--scope",
        action="append",
        choices=SCOPES,
        help="what the key is for, once for each scope; infer and read without it",
    )
    create.add_argument(
        "--model",
        action="append",
        metavar="MODEL",
        help="a model that the key is for, or a pattern such as team-*; all of them without it",
    )
    create.add_argument(
        "--expires", metavar="WHEN", help="when it ends, such as 90d, 12h or 2027-01-31"
    )
    create.add_argument(
        "--rate", type=float, metavar="N", help="requests a second that it may send"
    )
    create.add_argument(
        "--burst",
        type=int,
        metavar="N",
        help="requests that it may send at once; --rate without it",
    )


def run_create(options: argparse.Namespace) -> int:
    """Add a key and print it; it cannot be printed again."""
    path = _path(options)
    with keys_file.changing(path):
        key = _add(options, path)
    print(key)
    return 0


def _add(options: argparse.Namespace, path: str) -> str:
    entries = _entries(path)
    if any(entry.name == options.name for entry in entries):
        raise ConfigurationError(
            f"there is a key '{shorten(options.name)}' already; take another name for the new one, "
            f"such as {options.name}-2, and revoke the old one when nobody uses it any more"
        )
    key = keys_file.new_key()
    entry = Entry(
        options.name,
        keys_file.digest_of(key.encode()),
        options.scope or ["infer", "read"],
        options.model,
        keys_file.expiry(options.expires) if options.expires else None,
        options.rate,
        options.burst,
    )
    try:
        keys_file.checked(entry)
    except ConfigurationError as error:
        # The name is the one part of an entry that is not a flag.
        flag = "" if error.message.startswith("name:") else "--"
        raise ConfigurationError(f"{flag}{error.message}") from None
    keys_file.write(path, (*entries, entry))
    return key


def run_list(options: argparse.Namespace) -> int:
    """Print what each key is for."""
    now = datetime.now(UTC)
    rows = [_row(entry, now) for entry in keys_file.read(_path(options), "--file")]
    print_table(rows, ("name", "scopes", "models", "expires", "rate"), "there are no keys")
    return 0


def run_revoke(options: argparse.Namespace) -> int:
    """Take a key out; servers notice within seconds."""
    path = _path(options)
    with keys_file.changing(path):
        entries = keys_file.read(path, "--file")
        kept = tuple(entry for entry in entries if entry.name != options.name)
        if kept == entries:
            hint = did_you_mean(options.name, [entry.name for entry in entries])
            raise ConfigurationError(f"there is no key '{shorten(options.name)}'{hint}")
        keys_file.write(path, kept)
    return 0


def _path(options: argparse.Namespace) -> str:
    path: str = options.file or os.environ.get(VARIABLE, "")
    if not path:
        raise ConfigurationError(f"expected the file of keys, in --file or in {VARIABLE}")
    return path


def _entries(path: str) -> tuple[Entry, ...]:
    """What is in the file; nothing if it is not there yet."""
    return keys_file.read(path, "--file") if Path(path).exists() else ()


def _row(entry: Entry, now: datetime) -> dict[str, str]:
    expires = ""
    if entry.expires is not None:
        expires = "expired" if entry.expires <= now else entry.expires.isoformat()
    rate = "" if entry.rate is None else f"{entry.rate:g}/s"
    return {
        "name": entry.name,
        "scopes": ", ".join(entry.scopes),
        "models": "all" if entry.models is None else ", ".join(entry.models),
        "expires": expires,
        "rate": rate if entry.burst is None else f"{rate}, {entry.burst} at once",
    }

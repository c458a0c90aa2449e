"""`headrace rollout`: the canary of a model that a running server follows."""

from __future__ import annotations

import argparse
import http.client
import json
from typing import Any
from urllib.parse import quote, urlsplit

from headrace.cli.api_key import FLAG, HELP, api_key
from headrace.cli.stored_items import Parsers, guarded_verb
from headrace.errors import ConfigurationError, HeadraceError, shorten

TIMEOUT = 30.0
VERBS = {
    "promote": "give the canary all requests",
    "rollback": "give the stable version all requests, until the alias of the canary moves",
    "hold": "leave the canary the part of the requests that it has now",
}


def add_command(commands: Parsers[argparse.ArgumentParser]) -> None:
    """Add `rollout` with its verbs."""
    parser = commands.add_parser("rollout", help="show, promote, hold or roll back a canary")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    status = guarded_verb(verbs, "status", run_status, "show which version has which requests")
    status.add_argument("--json", action="store_true", help="print what the server answers")
    deciding = [guarded_verb(verbs, verb, run_decision, text) for verb, text in VERBS.items()]
    for each in deciding:
        each.add_argument("--reason", default="", help="for the log, the index and the record")
    for each in (status, *deciding):
        each.add_argument("model", metavar="MODEL", help="name of a model that is followed")
        each.add_argument("--url", default="localhost:8080", help="address of the server")
        each.add_argument(FLAG, metavar="FILE", help=HELP)


def run_status(options: argparse.Namespace) -> int:
    """Print the state of a rollout."""
    state = _asked(options, "GET", "")
    print(json.dumps(state, indent=2) if options.json else "\n".join(_lines(state)))
    return 0


def run_decision(options: argparse.Namespace) -> int:
    """Decide about a canary, and print the state after that."""
    state = _asked(options, "POST", f"/{options.verb}", {"reason": options.reason})
    print("\n".join(_lines(state)))
    return 0


def _asked(options: argparse.Namespace, method: str, path: str, body: Any = None) -> Any:
    """What the server answers.

    Raises:
        ConfigurationError: the address is not valid.
        HeadraceError: it does not answer, or refuses.
    """
    url = options.url if "://" in options.url else f"http://{options.url}"
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"--url: expected an address, got '{shorten(options.url)}'")
    key = api_key(options.api_key_file)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=TIMEOUT)
    route = f"{parts.path.rstrip('/')}/v2/repository/models/{quote(options.model, safe='')}/rollout"
    try:
        fields = {"Content-Type": "application/json"}
        if key is not None:
            fields["Authorization"] = f"Bearer {key}"
        connection.request(method, route + path, json.dumps(body) if body else None, fields)
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise HeadraceError(f"no answer from {url}: {error}") from error
    finally:
        connection.close()
    try:
        found = json.loads(text)
    except ValueError:
        found = {}
    if answer.status != 200:
        reason = found.get("error") if isinstance(found, dict) else None
        raise HeadraceError(f"{url} refuses: {reason or f'status {answer.status}'}")
    return found


def _lines(state: dict[str, Any]) -> list[str]:
    """The state of a rollout for people."""
    lines = [f"{'model':<9} {state['model']}"]
    canary = state["canary"]
    for role in ("stable", "canary", "shadow"):
        if state[role] is not None:
            share = f", {canary['percent']:g} % of the requests" if role == "canary" else ""
            lines.append(f"{role:<9} version {state[role]['version']}{share}")
    if state.get("moves_to"):
        lines.append(f"{'moves to':<9} version {state['moves_to']}, once it is loaded")
    if canary is None and state.get("no_canary"):
        lines.append(f"{'canary':<9} none: {state['no_canary']}")
    if canary is not None:
        failed = sum(canary["failures"].values())
        lines.append(f"{'requests':<9} {canary['requests']}, of which {failed} failed")
        if canary["step_ends"] is not None:
            lines.append(f"{'step':<9} {canary['step'] + 1}, until {canary['step_ends']}")
    rollout = state["rollout"]
    if rollout is not None:
        reason = f": {rollout['reason']}" if rollout["reason"] else ""
        outcome = rollout["outcome"].replace("_", " ")
        lines.append(f"{'rollout':<9} version {rollout['version']} is {outcome}{reason}")
    return lines

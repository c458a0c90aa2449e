"""Passes pip's configuration on to uv, which does not read it, as variables.

Users who can install packages with pip expect the environments of models to come from the same
places.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from headrace.environments import child

TIMEOUT = 30.0

# With any of these set, uv already knows where packages come from.
_CONFIGURED = (
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_NO_INDEX",
)
# An option of pip, the variable of uv, and what separates several values there.
_OPTIONS = (
    ("index-url", "UV_DEFAULT_INDEX", None),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("no-index", "UV_NO_INDEX", None),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("constraint", "UV_CONSTRAINT", " "),
    ("cert", "SSL_CERT_FILE", None),
    ("proxy", "ALL_PROXY", None),
)
# In pip's own order: the last value wins.
_SECTIONS = ("global", "install", ":env:")


async def as_uv_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """What to add to `variables`, the environment of uv; what is set there is kept."""
    if any(variables.get(name) for name in _CONFIGURED):
        return {}
    program = child.Program(
        [sys.executable, "-m", "pip", "config", "list"], variables, Path(sys.prefix)
    )
    try:
        outcome = await child.run(program, TIMEOUT)
    except (OSError, child.Overdue):
        outcome = child.Outcome(1, "")
    options = parse(outcome.output.splitlines()) if outcome.code == 0 else without_pip(variables)
    found = {name: value for name, value in translate(options).items() if not variables.get(name)}
    if "UV_INDEX" in found:
        # pip takes the best version from all indexes, uv one from the first that has any.
        found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return found


def as_uv_flags(variables: Mapping[str, str]) -> list[str]:
    """What uv reads from no variable: that there is no index."""
    value = variables.get("UV_NO_INDEX", "").strip().lower()
    return [] if value in ("", "0", "false", "no", "off") else ["--no-index"]


def parse(lines: Iterable[str]) -> dict[str, str]:
    """The options that `pip install` would use, from the lines of `pip config list`."""
    sections: dict[str, dict[str, str]] = {}
    for line in lines:
        name, separator, value = line.partition("=")
        section, _, option = name.strip().rpartition(".")
        if separator and section in _SECTIONS:
            try:
                sections.setdefault(section, {})[option] = str(ast.literal_eval(value.strip()))
            except (ValueError, SyntaxError):
                continue
    return {k: v for section in _SECTIONS for k, v in sections.get(section, {}).items()}


def translate(options: Mapping[str, str]) -> dict[str, str]:
    """pip's options as uv's variables."""
    found = {}
    for option, variable, separator in _OPTIONS:
        value = options.get(option, "").strip()
        if value:
            found[variable] = value if separator is None else separator.join(value.split())
    return found


def without_pip(variables: Mapping[str, str]) -> dict[str, str]:
    """The same options without pip, from its files and its variables."""
    found: dict[str, dict[str, str]] = {}
    for file in _files(variables):
        parser = configparser.RawConfigParser()
        with contextlib.suppress(OSError, ValueError, configparser.Error):
            parser.read_string(file.read_text())
        for section in parser.sections():
            options = {name.replace("_", "-"): value for name, value in parser.items(section)}
            found.setdefault(section, {}).update(options)
    names = {option: "PIP_" + option.replace("-", "_").upper() for option, _, _ in _OPTIONS}
    found[":env:"] = {k: variables[name] for k, name in names.items() if name in variables}
    return {k: v for section in _SECTIONS for k, v in found.get(section, {}).items()}


def _files(variables: Mapping[str, str]) -> Iterator[Path]:
    """Where pip looks for its configuration; the last value wins."""
    chosen = variables.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return
    home = Path(os.path.expanduser("~"))
    for folder in reversed((variables.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")):
        yield Path(folder, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(variables.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
    yield Path(sys.prefix, "pip.conf")
    if chosen:
        yield Path(chosen)

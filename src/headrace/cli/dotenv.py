"""Settings in a `.env` file of the working directory, which MLServer reads too.

Only the statements that set a variable of Headrace or MLServer count; the file may hold others
for other programs, in forms that are not understood here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from headrace.errors import ConfigurationError
from headrace.settings import MIB

FILE = ".env"
LARGEST_FILE = 1 * MIB
PREFIXES = ("HEADRACE_", "MLSERVER_")

_BEGIN = r"^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*="
# Quoted text may span several lines; a comment after plain text begins with a space.
_STATEMENT = re.compile(
    _BEGIN
    + r"""[ \t]*(?:
        '(?P<single>(?:[^'\\]|\\.)*)'
      | "(?P<double>(?:[^"\\]|\\.)*)"
      | (?P<plain>(?:(?<==)\#|[^'"\s\#])[^\n]*?)?
    )(?:[ \t]*|[ \t]+\#[^\n]*)$""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_BEGUN = re.compile(_BEGIN, re.MULTILINE)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_REFERENCE = re.compile(r"\$\{(?P<name>[^}:]+)(?::-(?P<default>[^}]*))?\}")


def environment(folder: Path | None = None) -> Mapping[str, str]:
    """The variables of this process, and below them those of `.env` in the working directory.

    Raises:
        ConfigurationError: the file cannot be read, or a setting in it is not well-formed.
    """
    file = (folder or Path()) / FILE
    if not os.path.isfile(file):
        return os.environ
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise ConfigurationError(f"{file}: larger than {LARGEST_FILE} bytes")
        text = data.decode()
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file}: expected UTF-8 text") from None
    return {**parse(text.replace("\r\n", "\n"), os.environ), **os.environ}


def parse(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings among the statements of a `.env` file, by their names in upper case.

    `${NAME}` and `${NAME:-default}` refer to an earlier statement, else to `environ`.

    Raises:
        ConfigurationError: the value of a setting is not well-formed; the message says where.
    """
    found: dict[str, str] = {}
    for begun, statement in _statements(text):
        name = begun["name"]
        if statement is not None:
            found[name] = _REFERENCE.sub(
                lambda ref: found.get(ref["name"], environ.get(ref["name"], ref["default"] or "")),
                _value(statement),
            )
        elif name.upper().startswith(PREFIXES):
            line = text.count("\n", 0, begun.start()) + 1
            raise ConfigurationError(f"{FILE} line {line}: the value of {name} is not well-formed")
    return {
        name.upper(): value for name, value in found.items() if name.upper().startswith(PREFIXES)
    }


def _statements(text: str) -> list[tuple[re.Match[str], re.Match[str] | None]]:
    """The beginning of each statement, and all of it, or None if it is not well-formed."""
    statements = []
    position = 0
    while (begun := _BEGUN.search(text, position)) is not None:
        statement = _STATEMENT.match(text, begun.start())
        statements.append((begun, statement))
        position = (statement or begun).end()
    return statements


def _value(statement: re.Match[str]) -> str:
    if (single := statement["single"]) is not None:
        return re.sub(r"\\([\\'])", r"\1", single)
    if (double := statement["double"]) is not None:
        return re.sub(r"\\([\\'\"nrt])", lambda escape: _ESCAPES.get(escape[1], escape[1]), double)
    return statement["plain"] or ""

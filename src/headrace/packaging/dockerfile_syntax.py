"""Dockerfile instructions in the forms that no value can break out of.

Commands are JSON arrays, so that no shell reads them, and values of variables are quoted. What
can be neither, such as the name of an image, has to match a pattern.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from headrace.errors import ConfigurationError, shorten

# [registry[:port]/]path[:tag][@digest], as Docker's reference grammar has it.
_IMAGE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@sha256:[0-9a-f]{64})?"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A Debian package, with a version or an architecture where one is given.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9-]+)?(?:=[A-Za-z0-9.+:~-]+)?")
LONGEST_IMAGE = 512


def image_name(name: str, where: str) -> str:
    """The name of an image, checked.

    Raises:
        ConfigurationError: it is not one; `where` is the flag or key it was read from.
    """
    if len(name) > LONGEST_IMAGE or not _IMAGE.fullmatch(name):
        raise ConfigurationError(
            f"{where}: expected the name of an image, such as python:3.11-slim or "
            f"registry.example.com/team/base:1, got '{shorten(name)}'"
        )
    return name


def system_package(name: str, where: str) -> str:
    """The name of a Debian package, checked.

    Raises:
        ConfigurationError: it is not one.
    """
    if not _PACKAGE.fullmatch(name):
        raise ConfigurationError(
            f"{where}: expected the name of a Debian package, such as libgomp1 or ffmpeg=7:5.1, "
            f"got '{shorten(name)}'"
        )
    return name


def variable(name: str, value: str, where: str) -> tuple[str, str]:
    """A variable and its value, checked.

    Raises:
        ConfigurationError: the name is not one, or the value has line breaks or other control
            characters, which a Dockerfile cannot hold.
    """
    if not _VARIABLE.fullmatch(name):
        raise ConfigurationError(
            f"{where}: expected the name of a variable (letters, digits and '_'), "
            f"got '{shorten(name)}'"
        )
    if any(ord(c) < 32 or ord(c) == 127 or c in "\x85\u2028\u2029" for c in value):
        raise ConfigurationError(
            f"{where}: the value of {shorten(name)} has a line break or another control "
            "character, which a Dockerfile cannot hold"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{where}: the value of {shorten(name)} is not text") from None
    return name, value


def base_image(name: str, stage: str | None = None) -> str:
    """`FROM`; the name is one that `image_name` returned."""
    return f"FROM {name}" + (f" AS {stage}" if stage else "")


def env(variables: Mapping[str, str]) -> list[str]:
    """One `ENV` for each variable. The builder expands nothing in the values."""
    return [f"ENV {name}={_quoted(value)}" for name, value in variables.items()]


def label(name: str, value: str) -> str:
    """`LABEL`; the name is one of ours."""
    return f"LABEL {name}={_quoted(value)}"


def run(command: Sequence[str], mounts: Sequence[str] = ()) -> str:
    """`RUN` without a shell."""
    return " ".join(["RUN", *(f"--mount={mount}" for mount in mounts), _array(command)])


def copy(
    source: str,
    target: str,
    *,
    stage: str | None = None,
    owner: str | None = None,
    mode: str | None = None,
) -> str:
    """`COPY`. Builders expand `$` and `*` in paths, so these are constants of ours."""
    flags = [f"--from={stage}"] if stage else []
    flags += [f"--chown={owner}"] if owner else []
    flags += [f"--chmod={mode}"] if mode else []
    return " ".join(["COPY", *flags, _array([source, target])])


def array(instruction: str, command: Sequence[str]) -> str:
    """`ENTRYPOINT` or `CMD` without a shell."""
    return f"{instruction} {_array(command)}"


def _array(words: Sequence[str]) -> str:
    return json.dumps(list(words))


def _quoted(value: str) -> str:
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'

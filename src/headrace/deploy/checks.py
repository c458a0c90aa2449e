"""What names and amounts of Kubernetes may look like."""

from __future__ import annotations

import re
from collections.abc import Mapping

from headrace.errors import ConfigurationError, shorten

# Of 63, what is left when platforms append words such as -predictor.
LONGEST_NAME = 50
# A label of RFC 1035, which Services need; every DNS-1123 name that begins with a letter is one.
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_SECRET = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# In thousandths, Kubernetes' finest.
_CPU = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?|[0-9]{1,9}m")
_MEMORY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
# In bytes: less than any Python needs, and more than any machine has.
LEAST_MEMORY, MOST_MEMORY = 16 * 1024**2, 1024**5


def name(given: str, where: str) -> str:
    """The name of an object, if it is valid.

    Raises:
        ConfigurationError: it is not; `where` is the flag.
    """
    if len(given) > LONGEST_NAME or not _NAME.fullmatch(given):
        raise ConfigurationError(
            f"{where}: expected lower-case letters, digits and '-', {LONGEST_NAME} at most, that "
            f"begin with a letter and do not end with '-', got '{shorten(given)}'"
        )
    return given


def name_from(text: str) -> str:
    """A valid name that resembles the name of a model, which may have any letters."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not words[:1].isalpha():
        words = f"model-{words}"
    return words[:LONGEST_NAME].strip("-")


def secret(given: str) -> str:
    """The name of a Secret.

    Raises:
        ConfigurationError: it is not one.
    """
    if len(given) > 253 or not _SECRET.fullmatch(given):
        raise ConfigurationError(
            f"--env-from: expected the name of a Secret in the namespace of the model, such as "
            f"mlflow-credentials, got '{shorten(given)}'"
        )
    return given


def variables(given: list[str]) -> dict[str, str]:
    """The variables that flags `--env` set.

    Raises:
        ConfigurationError: one has no value, the name of none, or a value that is not text.
    """
    found: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not _VARIABLE.fullmatch(key):
            raise ConfigurationError(f"--env: expected NAME=VALUE, got '{shorten(pair)}'")
        if not value.isprintable():
            raise ConfigurationError(
                f"--env: the value of {shorten(key)} has a line break or another character that "
                "cannot be printed"
            )
        found[key] = value
    return found


def cpu(given: str) -> str:
    """A number of cores, such as 2, 0.5 or 500m.

    Raises:
        ConfigurationError: it is not one.
    """
    if not _CPU.fullmatch(given) or not given.strip("0.m"):
        raise ConfigurationError(
            f"--cpu: expected a number of cores in thousandths, such as 2, 0.5 or 500m, got "
            f"'{shorten(given)}'"
        )
    return given


def memory(given: str) -> str:
    """An amount of memory, such as 4Gi or 512Mi.

    Raises:
        ConfigurationError: it is not one.
    """
    match = _MEMORY.fullmatch(given)
    if match is None or not LEAST_MEMORY <= size(given) <= MOST_MEMORY:
        raise ConfigurationError(
            f"--memory: expected an amount from 16Mi to 1024Ti, such as 4Gi or 512Mi, got "
            f"'{shorten(given)}'"
        )
    return given


def cores(amount: str) -> float:
    """The number of a checked amount of cores."""
    number = float(amount[:-1]) / 1000 if amount.endswith("m") else float(amount)
    return int(number) if number.is_integer() else number


def size(amount: str) -> int:
    """The bytes of a checked amount of memory."""
    match = _MEMORY.fullmatch(amount)
    assert match is not None
    unit = match[2] or ""
    base = 1024 if unit.endswith("i") else 1000
    return int(float(match[1]) * base ** " kMGT".index((unit[:1] or " ").replace("K", "k")))


def whole(given: str, flag: str, least: int = 1) -> int:
    """A whole number.

    Raises:
        ConfigurationError: it is not one, or less than `least`.
    """
    is_number = given.isascii() and given.isdecimal() and len(given) <= 6
    if not is_number or not least <= int(given) <= 100_000:
        raise ConfigurationError(
            f"{flag}: expected a whole number from {least} to 100000, got '{shorten(given)}'"
        )
    return int(given)


def without_templates(values: Mapping[str, str]) -> None:
    """Refuse values that KServe would take for templates of Go.

    Raises:
        ConfigurationError: a value has {{ in it.
    """
    for key, value in values.items():
        if "{{" in value:
            raise ConfigurationError(
                f"--env: KServe reads the {{{{ in the value of {shorten(key)} as a template; put "
                "the value into a Secret, and name it with --env-from"
            )

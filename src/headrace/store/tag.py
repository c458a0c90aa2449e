"""Tags, such as `iris:latest`: the names and versions of what is stored."""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass

from headrace.errors import InvalidInput, shorten

logger = logging.getLogger("headrace.store")

LATEST = "latest"
LONGEST = 63
_PART = re.compile(r"[a-z0-9]([-._a-z0-9]*[a-z0-9])?")
RULE = (
    f"use at most {LONGEST} letters, digits, '_', '.' and '-', and begin and end with a letter or "
    "digit"
)
# In the order of their codes, so that versions sort as text in the order of their times.
_DIGITS = "234567abcdefghijklmnopqrstuvwxyz"
_TIME_DIGITS = 11
_RANDOM_DIGITS = 5


@dataclass(frozen=True)
class Tag:
    """A name, and a version unless it is that of the latest or of all versions.

    `str()` gives `name` or `name:version`. Tags are sorted by name and version, and one without a
    version comes first.

    Raises:
        InvalidInput: the name or the version has a form that none may have.
    """

    name: str
    version: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _checked(self.name, "name"))
        if self.version is not None:
            object.__setattr__(self, "version", _checked(self.version, "version"))

    @classmethod
    def parse(cls, given: str | Tag) -> Tag:
        """The tag that a text such as `iris` or `iris:v1` stands for.

        Raises:
            InvalidInput: it stands for none.
        """
        if isinstance(given, Tag):
            return given
        name, colon, version = str(given).partition(":")
        if colon and not version:
            raise InvalidInput(
                f"tag '{shorten(given)}' ends with ':'; '{shorten(name)}:{LATEST}' is the latest "
                "version"
            )
        return cls(name, version or None)

    # BentoML's names for it.
    from_str = from_taglike = parse

    def path(self) -> str:
        """`name/version`, or `name`: where it is below the folder of a store."""
        return str(self).replace(":", "/")

    def latest_path(self) -> str:
        """Where the latest version of the name is written down, below the folder of a store."""
        return f"{self.name}/{LATEST}"

    def make_new_version(self) -> Tag:
        """A tag of the same name with a version that nothing has yet."""
        return Tag(self.name, generated_version())

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}:{self.version}"

    def __lt__(self, other: Tag) -> bool:
        return (self.name, self.version or "") < (other.name, other.version or "")

    @property
    def is_latest(self) -> bool:
        """Whether it stands for whichever version is the latest."""
        return self.version in (None, LATEST)


def is_name(text: str) -> bool:
    """Whether it is a name as it is stored. In upper case it would be converted, and so another."""
    try:
        return text == text.lower() and bool(Tag(text))
    except InvalidInput:
        return False


def is_version(text: str) -> bool:
    """Whether it is a version as it is stored; `latest` is not, but stands for one."""
    return text != LATEST and is_name(text)


def generated_version() -> str:
    """A new version: 16 characters that sort by time, to the microsecond."""
    number = time.time_ns() // 1000
    number = number << 5 * _RANDOM_DIGITS | secrets.randbits(5 * _RANDOM_DIGITS)
    places = range(_TIME_DIGITS + _RANDOM_DIGITS)
    return "".join(_DIGITS[number >> 5 * place & 31] for place in reversed(places))


def _checked(part: str, what: str) -> str:
    # Some letters outside ASCII become one of ours.
    lower = part.lower() if part.isascii() else part
    if len(lower) > LONGEST or not _PART.fullmatch(lower):
        raise InvalidInput(f"'{shorten(part)}' is not the {what} of a tag; {RULE}")
    if lower != part:
        logger.warning("converting '%s' to lower case: '%s'", part, lower)
    return lower

"""How many things one request may have: each costs far more than the few bytes that name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from headrace.errors import TooLarge
from headrace.settings import ServerSettings

# Bytes of a body that are looked at in one go, so that other threads get a turn.
_STEP = 1024 * 1024
_QUOTE, _BACKSLASH, _BRACE = ord('"'), ord("\\"), ord("{")
# What is between the values of objects and lists, and begins these.
_OF_VALUES = b",{["
# Bodies of fewer bytes may have whatever they can: it is made in a few milliseconds.
UNCOUNTED = 1024 * 1024
# Texts of JSON that come with an input, an output or a parameter: its keys, its name, its datatype.
_MOST_TEXTS = 16


class Counts(NamedTuple):
    """The most of each that a request may have; a setting `max_...` is named like each."""

    text_elements: int = 1_000_000
    inputs: int = 10_000
    outputs: int = 10_000
    parameters: int = 50_000

    @classmethod
    def of(cls, settings: ServerSettings) -> Counts:
        """Those that a server is set to."""
        return cls(*(getattr(settings, f"max_{name}") for name in cls._fields))

    @property
    def around(self) -> int:
        """More texts than the inputs, outputs and parameters of any request have around them."""
        return _MOST_TEXTS * (self.inputs + self.outputs + self.parameters)

    def check(self, what: str, count: int) -> None:
        """Check a number of things that have been counted.

        Raises:
            TooLarge: there are too many; the message names the flag.
        """
        most: int = getattr(self, what)
        if count > most:
            words = what.replace("_", " ")
            flag = what.replace("_", "-")
            raise TooLarge(
                f"the request has {count} {words}, at most {most} allowed; --max-{flag} raises the "
                "cap"
            )

    def check_parameters(self, *objects: Mapping[str, Any] | None) -> None:
        """Check the number of parameters of a whole request.

        Raises:
            TooLarge: there are too many.
        """
        self.check("parameters", sum(len(each) for each in objects if each))

    def check_objects(self, text: bytes) -> None:
        """Check a body of JSON before anything is made of its inputs, outputs and parameters.

        Braces that are within a text are not counted.

        Raises:
            TooLarge: there are more objects than any request within the bounds has.
        """
        # The body and its parameters, each input and output with its own, and each parameter.
        most = 2 + 2 * (self.inputs + self.outputs) + self.parameters
        if len(text) < UNCOUNTED or _braces(text, most) <= most:
            return
        if _outside(text, b"{", most) > most:
            raise TooLarge(
                f"the request has more than {most} objects; --max-inputs, --max-outputs and "
                "--max-parameters raise the cap"
            )

    def check_values(self, text: bytes) -> None:
        """Check JSON of parameters before anything is made of them; each of its values counts.

        Raises:
            TooLarge: there are more than a request may have parameters.
        """
        # Each has a comma behind it and may have a bracket, and so has each object of them.
        most = 2 * (1 + self.inputs + self.outputs + self.parameters)
        if len(text) > most and _outside(text, _OF_VALUES, most) > most:
            raise TooLarge(
                f"the parameters of the request have more than {self.parameters} values; "
                "--max-parameters raises the cap"
            )

    def check_texts(self, text: bytes) -> None:
        """Check a body of JSON before anything is made of its texts.

        A text has two quotes, and others in it are escaped. One that ends in a backslash looks as
        if its last quote were: so there may be twice as many texts as the bound says, but never
        fewer.

        Raises:
            TooLarge: there are more texts than any request within the bounds has.
        """
        around = self.around
        # Half of the bytes of a text are quotes at most.
        if len(text) <= 2 * (self.text_elements + around):
            return
        quotes = 0
        for start in range(0, len(text), _STEP):
            part = np.frombuffer(text, np.uint8, min(_STEP, len(text) - start), start)
            is_quote = part == _QUOTE
            quotes += int(np.count_nonzero(is_quote))
            quotes -= int(np.count_nonzero(is_quote[1:] & (part[:-1] == _BACKSLASH)))
            if quotes > 2 * (self.text_elements + around):
                raise TooLarge(
                    f"the request has more than {self.text_elements} text elements; "
                    "--max-text-elements raises the cap"
                )


def _braces(text: bytes, most: int) -> int:
    """How many braces are opened in a text, within texts too; counting ends above `most`."""
    found = 0
    for start in range(0, len(text), _STEP):
        part = np.frombuffer(text, np.uint8, min(_STEP, len(text) - start), start)
        found += int(np.count_nonzero(part == _BRACE))
        if found > most:
            break
    return found


def _outside(text: bytes, wanted: bytes, most: int) -> int:
    """How often any of some characters is outside of texts; counting ends above `most`."""
    found = is_within = 0
    escape = b""
    for start in range(0, len(text), _STEP):
        part = escape + text[start : start + _STEP]
        # Both from the left, so that a backslash which is escaped itself escapes nothing.
        part = part.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
        # It comes again in the next part, before what it escapes.
        escape = b"\\" if part.endswith(b"\\") else b""
        characters = np.frombuffer(part, np.uint8)
        # Odd within a text, also where it has become too large for its type.
        quotes = np.cumsum(characters == _QUOTE, dtype=np.uint8) + np.uint8(is_within)
        outside = characters[quotes & 1 == 0]
        found += sum(int(np.count_nonzero(outside == each)) for each in wanted)
        if found > most:
            break
        is_within = int(quotes[-1]) & 1
    return found


COUNTS = Counts()

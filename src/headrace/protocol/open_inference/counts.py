"""How many things one request may have: each costs far more than the few bytes that name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from headrace.errors import TooLarge
from headrace.settings import ServerSettings

# Bytes of a body that are looked at in one go, so that other threads get a turn.
_STEP = 1024 * 1024
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
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

    def check_texts(self, text: bytes) -> None:
        """Check a body of JSON before anything is made of its texts.

        A text has two quotes, and others in it are escaped. One that ends in a backslash looks as
        if its last quote were: so there may be twice as many texts as the bound says, but never
        fewer.

        Raises:
            TooLarge: there are more texts than any request within the bounds has.
        """
        around = _MOST_TEXTS * (self.inputs + self.outputs + self.parameters)
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


COUNTS = Counts()

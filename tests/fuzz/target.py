"""What a fuzzing target is: a decoder, what it may raise, and where to begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from headrace.errors import (
    HeadersTooLarge,
    HeadraceError,
    InvalidInput,
    Overloaded,
    TooLarge,
    Unimplemented,
    UnsupportedMedia,
)

# What a caller's bytes may be refused with. Any other error of ours would blame somebody else.
REFUSALS = (
    HeadersTooLarge,
    InvalidInput,
    Overloaded,
    TooLarge,
    Unimplemented,
    UnsupportedMedia,
)


class Target(NamedTuple):
    """A decoder under test.

    `run` decodes some bytes and returns. It raises nothing but `refusals`; whatever else it raises
    is a finding. `seeds` are inputs to begin with, and `words` what inputs are made of.
    """

    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()
    refusals: tuple[type[Exception], ...] = REFUSALS

    def try_out(self, data: bytes) -> HeadraceError | Exception | None:
        """Decode an input; returns what refused it, if anything did."""
        try:
            self.run(data)
        except self.refusals as refusal:
            return refusal
        return None

"""Keys of a request that mean nothing: a typo of one that does is refused, others are passed over.

Whoever sends a request does not see the server's log, and clients add keys of their own. Requests
without such keys never get here.
"""

from __future__ import annotations

from collections.abc import Mapping

from headrace.errors import InvalidInput, nearest, shorten

# A longer word is not a typo, and this many different ones are not an accident. Comparing them
# takes time.
LONGEST = 32
MOST = 100


class Typos:
    """Looks for typos among the keys of the objects of one request."""

    def __init__(self) -> None:
        self._passed: set[tuple[str, ...]] = set()

    def refuse(self, members: Mapping[str, object], known: tuple[str, ...], what: str) -> None:
        """Refuse a key that resembles a known one which is not there itself.

        Raises:
            InvalidInput: there is one; the message names both, and `what` the object.
        """
        missing = tuple(name for name in known if name not in members)
        for word in members:
            if word in known or (word, *missing) in self._passed or len(word) > LONGEST:
                continue
            if len(self._passed) >= MOST:
                return
            self._passed.add((word, *missing))
            if near := nearest(word, missing):
                raise InvalidInput(
                    f"{what}: there is no key '{shorten(word)}'; did you mean '{near}'?"
                )

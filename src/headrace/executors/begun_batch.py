"""A batch that is on its way to a worker without a task of its own."""

from __future__ import annotations

import logging

from headrace.errors import HeadraceError
from headrace.executors.executor import Done
from headrace.protocol.messages import InferenceResponse

logger = logging.getLogger("headrace.executors")


class Begun:
    """A batch whose outcome a callback gets at once, in place of a future.

    If it is `in_turn`, its model works on one batch after the other.
    """

    __slots__ = ("_done", "deadline", "in_turn")

    def __init__(self, deadline: float, done: Done, in_turn: bool) -> None:
        self.deadline = deadline
        self.in_turn = in_turn
        self._done: Done | None = done

    def done(self) -> bool:
        return self._done is None

    def set_result(self, response: InferenceResponse) -> None:
        self._settle(response)

    def set_exception(self, error: HeadraceError) -> None:
        self._settle(error)

    def _settle(self, outcome: InferenceResponse | HeadraceError) -> None:
        done, self._done = self._done, None
        assert done is not None, "it is settled once"
        try:
            done(outcome)
        except Exception:
            # If this were raised, it would end the worker and the calls to its other models.
            logger.exception("the outcome of a request was not taken; this is a bug")
